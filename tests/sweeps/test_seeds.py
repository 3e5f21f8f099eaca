"""Points under several seeds."""

from pathlib import Path

import pytest

from rlhf.result import Objective, Result, Status
from sweeps.seeds import are_distinguishable, is_hopeless, joined, kept_apart

LOSS, GAIN = Objective("eval/loss", "minimize"), Objective("reward/gain", "maximize")


def run(loss: float, **fields: object) -> Result:
    return Result(Status.finished, "sft", "tiny", "r", "s", metrics={"eval/loss": loss}, **fields)  # type: ignore[arg-type]


def test_a_point_is_hopeless_when_it_is_worse_on_common_seeds_for_certain() -> None:
    best = {1: 1.0, 2: 5.0, 3: 3.0}
    assert is_hopeless({1: 2.0, 2: 6.001}, best, LOSS)  # worse by 1.0 and 1.001, however far apart the seeds are
    assert not is_hopeless({1: 2.0, 2: 6.001}, best, GAIN)
    assert not is_hopeless({1: 2.0}, best, LOSS)
    assert not is_hopeless({1: 2.0, 2: 4.0}, best, LOSS)


@pytest.mark.parametrize("status", ["finished", "stopped", "lost", "failed"])
def test_finished_seeds_of_a_trial_that_was_cut_off_are_kept(tmp_path: Path, status: str) -> None:
    ends = {1: run(1.0), 2: Result(Status[status], "sft", "tiny", "r", "s")}
    for seed, end in ends.items():
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "result.json").write_text(end.to_json())
    (tmp_path / "result.json").write_text(ends[2].to_json())
    assert [*kept_apart(tmp_path)] == {"finished": [1, 2], "failed": []}.get(status, [1])


def test_overlapping_points_are_not_distinguishable() -> None:
    assert are_distinguishable({1: 1.0, 2: 2.0, 3: 3.0}, {1: 1.5, 2: 2.51, 3: 3.49})
    assert not are_distinguishable({1: 1.0, 2: 2.0, 3: 3.0}, {1: 3.0, 2: 1.0, 3: 2.1})
    assert not are_distinguishable({1: 1.0}, {1: 2.0})


def test_the_mean_of_seeds_has_an_interval_and_adds_up_what_they_took() -> None:
    ends = [run(1.0, seconds=2.0, peak_memory_gib=1.0), run(3.0, seconds=4.0, peak_memory_gib=2.0, cost_usd=0.5)]
    both = joined(ends, 2)
    assert both.metrics["eval/loss"] == 2.0 and both.metrics["eval/loss_low"] == pytest.approx(2 - 12.706, abs=1e-3)
    assert (both.seconds, both.peak_memory_gib, both.cost_usd) == (6.0, 2.0, 0.5)
    assert joined(ends, 3).message == "mean of 2 seeds of 3: worse than the best for certain"


def test_an_interval_of_single_runs_is_not_averaged() -> None:
    ends = [run(1.0), run(3.0)]
    for end in ends:
        end.metrics |= {"eval/loss_low": 0.0, "eval/loss_high": 9.0}
    assert joined(ends, 2).metrics["eval/loss_high"] == pytest.approx(2 + 12.706, abs=1e-3)
