"""TensorBoard as a sink, read back with its own reader."""

from dataclasses import replace
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rlhf.result import Result, Status
from rlhf.tracking.about import About, Node
from rlhf.tracking.tensorboard_tracker import FOLDER, TensorboardTracker


@pytest.fixture
def told(tmp_path: Path) -> About:
    output = Node("ppo-1", "model", {})
    return About(tmp_path, "ppo", "ppo-tiny-s1-0123", "ppo-tiny-01234567", [], {"seed": 1}, 8, 0, False, [], output)


def track(told: About, steps: range) -> None:
    tracker = TensorboardTracker(told)
    for step in steps:
        tracker.log(step, {"loss": float(step), "response/length_mean": 2.0}, held_out=False)
        tracker.log(step, {"response/length_mean": 3.0}, held_out=True)
    tracker.table(steps[-1], [{"prompt": "<b>a</b>", "response": "# b"}])
    tracker.alert(steps[-1], "pad-is-end", "a text")
    tracker.finish(Result(Status.finished, "ppo", "tiny", "", ""))


def read(told: About) -> EventAccumulator:
    found = EventAccumulator(str(told.folder / FOLDER))
    found.Reload()
    return found


def test_the_event_file_holds_what_was_logged(told: About) -> None:
    track(told, range(1, 4))
    found = read(told)
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [event.value for event in found.Scalars("eval/response/length_mean")] == [3.0, 3.0, 3.0]
    (alert,) = found.Tensors("doctor/pad-is-end/text_summary")
    assert (alert.step, alert.tensor_proto.string_val[0].decode()) == (3, "    a text\n")
    (text,) = found.Tensors("samples/text_summary")
    assert text.tensor_proto.string_val[0].decode().startswith("    prompt: <b>a</b>\n    response: # b")


def test_a_resumed_run_hides_what_came_behind_its_checkpoint(told: About) -> None:
    track(told, range(1, 6))
    track(replace(told, first_round=3), range(4, 7))
    assert [event.step for event in read(told).Scalars("loss")] == [1, 2, 3, 4, 5, 6]


def test_a_folder_that_cannot_be_written_ends_nothing(told: About, capsys: pytest.CaptureFixture[str]) -> None:
    (told.folder / FOLDER).write_text("not a folder")
    track(told, range(1, 4))
    assert capsys.readouterr().out.count("tensorboard is off for this run") == 1
