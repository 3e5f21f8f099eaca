"""What is read of a study's folder and what it comes to: best, alike, front, champions, failures; the lanes of its timeline."""

import fcntl
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from launchers.trial import REUSED
from rlhf.composing import companions
from rlhf.fault import Fault
from rlhf.result import Objective, Result, Status
from sweeps import logbook
from sweeps import study as sweeper
from sweeps.answer import folder, passes, standing, timeline, words
from sweeps.answer.axis import of_values
from sweeps.answer.folder import PACE
from sweeps.answer.importance import importance
from sweeps.answer.tracks import Tracks, pace
from sweeps.logbook import Stay
from sweeps.seeds import joined
from tests.sweeps import made
from tests.sweeps.conftest import FAKE_TRIAL

LOSS = Objective("eval/loss", "minimize")
Ends = dict[int, dict[str, float]]


def study(path: Path, ends: Ends, **changed: object) -> Path:
    """A study whose trials finished with these metrics, by number; `GiB` and `$` are what they took."""
    place = path / "studies/made"
    place.mkdir(parents=True)
    trials = [made.trial(number, {"a": number}) for number in ends]
    for each, metrics in zip(trials, ends.values(), strict=True):
        took = {"peak_memory_gib": metrics.pop("GiB", None), "cost_usd": metrics.pop("$", None), "seconds": 10.0}
        made.put(place, each, metrics, **took)
    space = [{"key": "a", "name": "a", "values": list(ends)}]
    book = made.book(trials=trials, space=space, **{"constraints": [], **changed})
    (place / "study.json").write_text(json.dumps(book))
    return place


def test_the_best_keeps_the_constraints_and_its_command_reproduces_it(tmp_path: Path) -> None:
    ends: Ends = {0: {"eval/loss": 1.0, "GiB": 50.0}, 1: {"eval/loss": 3.0, "GiB": 9.0}, 2: {"eval/loss": 2.0, "GiB": 8.0}}
    read = folder.read(study(tmp_path, ends, constraints=["mem/peak_gib <= 40"]))
    found = standing.of(read)
    assert found.best is not None and found.best.number == 2
    assert [each.number for each in found.ranked] == [2, 1, 0]
    assert read.trials[0].broken == ["mem/peak_gib <= 40"] and not read.trials[0].is_good
    assert standing.commands(found.best) == [f"python -m rlhf reproduce {tmp_path}/runs/sft-tiny-0002"]
    assert standing.alone(read, found.best) == "python -m rlhf stage=sft data=demo a=2"


def test_without_a_finished_trial_or_a_constraint_kept_it_says_so(tmp_path: Path) -> None:
    none = folder.read(study(tmp_path / "none", {}))
    assert (standing.of(none).best, words.none_yet(none)) == (None, "No trial has finished.")
    broken = folder.read(study(tmp_path / "broken", {0: {"eval/loss": 1.0, "GiB": 50.0}}, constraints=["mem/peak_gib < 40"]))
    assert standing.of(broken).best is None and "1 break a constraint" in words.none_yet(broken)
    other = folder.read(study(tmp_path / "other", {0: {"eval/accuracy": 1.0}}))
    assert standing.of(other).best is None and "measured" in words.none_yet(other)


@pytest.mark.parametrize(
    "changed",
    [
        {"objectives": []},
        {"objectives": [{"metric": "eval/loss", "direction": "up"}]},
        {"constraints": ["much"]},
        {"words": None},
        {"space": [{"key": "a", "name": "a"}]},
        {"sessions": [{"began": "today", "ended": None}]},
        {"trials": [made.trial(0, {}) | {"overrides": None}]},
        {"trials": [made.trial(0, {}, "well")]},
        {"runs": [{"folder": "trials/0000"}]},
    ],
)
def test_a_book_of_odd_kinds_is_one_fault(tmp_path: Path, changed: dict[str, object]) -> None:
    place = study(tmp_path, {})
    (place / "study.json").write_text(json.dumps(made.book(**changed)))
    with pytest.raises(Fault, match="study.json: is missing or not whole"):
        folder.read(place)


def test_a_command_can_be_pasted() -> None:
    words = ["sweep=a", "sweep.constraints=['mem/peak_gib <= 40']", "a=b c", "c='$x'"]
    said = folder.pasteable(words)
    assert said == """sweep=a "sweep.constraints=['mem/peak_gib <= 40']" 'a=b c' 'c='"'"'$x'"'"''"""
    assert shlex.split(said) == words


def test_of_several_objectives_nothing_is_better_than_a_leader(tmp_path: Path) -> None:
    goals = [{"metric": "eval/loss", "direction": "minimize"}, {"metric": "reward/gain", "direction": "maximize"}]
    pairs = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)]
    ends: Ends = {at: {"eval/loss": loss, "reward/gain": gain} for at, (loss, gain) in enumerate(pairs)}
    found = standing.of(folder.read(study(tmp_path, ends, objectives=goals)))
    assert [each.number for each in found.leaders] == [0, 1] and [each.number for each in found.ranked] == [0, 1, 2]


def test_the_front_is_over_quality_speed_memory_and_dollars_as_far_as_they_tell(tmp_path: Path) -> None:
    speed = "perf/tokens_per_second"
    ends: Ends = {
        0: {"eval/loss": 1.0, speed: 10.0, "GiB": 8.0, "$": 1.0},
        1: {"eval/loss": 2.0, speed: 30.0, "GiB": 8.0, "$": 0.5},
        2: {"eval/loss": 2.5, speed: 20.0, "GiB": 8.0, "$": 0.7},
    }
    found = standing.of(folder.read(study(tmp_path, ends)))
    assert [each.metric for each in found.axes] == ["eval/loss", speed, "cost/usd"]  # all need the same memory
    assert [each.number for each in found.front] == [0, 1]
    assert [(title, each.number) for title, _, each in found.champions] == [("fastest", 1), ("cheapest", 1)]


def test_times_of_runs_from_before_the_study_decide_nothing(tmp_path: Path) -> None:
    speed = "perf/tokens_per_second"
    ends: Ends = {at: {"eval/loss": 1.0 + at, speed: 90.0 / (1 + at), "$": 1.0 + at} for at in range(3)}
    place = study(tmp_path, ends)
    reused = place / "trials/0000/result.json"
    told = Result.load(reused)
    reused.write_text(joined([replace(told, message=REUSED), told], 2).to_json())
    read = folder.read(place)
    found = standing.of(read)
    assert found.best is not None and found.best.number == 0
    assert [(title, each.number) for title, _, each in found.champions] == [("fastest", 1), ("cheapest", 1)]
    assert words.of_before(read, found).startswith("Runs of 0000 were finished before this study")


def test_points_that_the_seeds_do_not_tell_from_the_best_are_named(tmp_path: Path) -> None:
    by_seed = {0: [1.0, 2.0, 3.0], 1: [1.1, 1.9, 3.1], 2: [5.0, 6.0, 7.0]}
    place = study(tmp_path, {at: {"eval/loss": sum(each) / 3} for at, each in by_seed.items()}, seeds=[1, 2, 3])
    for number, values in by_seed.items():
        for seed, value in enumerate(values, 1):
            run = place / f"trials/{number:04d}/{seed}"
            run.mkdir()
            (run / "result.json").write_text(
                Result(Status.finished, "sft", "t", "r", "s", metrics={"eval/loss": value}).to_json()
            )
    found = standing.of(folder.read(place))
    assert found.best is not None and found.best.number == 0 and [each.number for each in found.alike] == [1]


def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    place = study(tmp_path, {})
    ends = [("failed", "nan"), ("infeasible", "dominated by #1"), ("infeasible", "dominated by #7"), ("pruned", "")]
    trials = [made.trial(at, {"a": at}, *end) for at, end in enumerate(ends)]
    for each in trials:
        made.put(place, each, {}, f"said {each['number']}\nmore")
    (place / "study.json").write_text(json.dumps(made.book(trials=trials)))
    found = standing.of(folder.read(place)).failures
    assert [(each.status, each.reason, each.names) for each in found] == [
        ("infeasible", "dominated by another", ["0001", "0002"]),
        ("failed", "nan", ["0000"]),
    ]
    assert found[1].message == "said 0" and found[1].log == place / "trials/0000/log.txt"


def test_what_is_torn_or_missing_is_left_out(tmp_path: Path) -> None:
    place = study(tmp_path, {0: {"eval/loss": 1.0}, 1: {"eval/loss": 2.0}, 2: {"eval/loss": 3.0}})
    (place / "trials/0000/result.json").write_text("{")
    (place / "trials/0001/result.json").unlink()
    (tmp_path / "runs/sft-tiny-0002/metrics.jsonl").write_text('{"round": 1, "kind": "ev')
    read = folder.read(place)
    assert [each.values for each in read.trials] == [None, None, (3.0,)]
    assert read.trials[0].message == "its result was deleted"
    (place / "study.json").write_text('{"stage": "sft"')
    with pytest.raises(Fault, match="study.json: is missing or not whole"):
        folder.read(place)


def test_a_running_trial_says_how_far_it_is_and_is_lost_without_its_sweeper(tmp_path: Path) -> None:
    place = study(tmp_path, {})
    each = made.trial(0, {"a": 1}, "running")
    run = tmp_path / "runs/sft-tiny-abc"
    run.mkdir(parents=True)
    rows = [{"round": 4, "kind": "train", "time/train_s": 2.0}, {"round": 8, "kind": "train", "time/train_s": 1.0}]
    rows.append({"round": 8, "kind": "eval", "eval/loss": 3.5})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "trials/0000").mkdir(parents=True)
    (place / "trials/0000/log.txt").write_text(f"sft-tiny-abc: in {run}\n  row 1: x\nsft-tiny-abc  9/20  0:01  loss 3\n")
    (place / "study.json").write_text(json.dumps(made.book(trials=[each])))
    assert folder.read(place).trials[0].entry.status == "lost"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        read = folder.read(place)
        (trial,) = read.trials
    assert trial.entry.status == "running"
    assert "running: 0 trials ended (1 running)" in words.head(read, standing.of(read))
    assert words.doing(trial, read) == "round 9 of 20, eval/loss 3.5"
    assert trial.measured[PACE] == 0.25  # the first row is left out: one second over four rounds


def test_records_are_read_again_only_when_they_have_grown(tmp_path: Path) -> None:
    place, tracks = study(tmp_path, {0: {"eval/loss": 1.0}}), Tracks()
    first = folder.read(place, tracks).trials[0].tracks[0].curve
    assert folder.read(place, tracks).trials[0].tracks[0].curve is first
    with (tmp_path / "runs/sft-tiny-0000/metrics.jsonl").open("a") as record:
        record.write('{"round": 9, "kind": "eval", "eval/loss": 7.0}\n')
    assert folder.read(place, tracks).trials[0].tracks[0].curve[-1].values["eval/loss"] == 7.0


def test_a_pace_needs_training() -> None:
    assert pace([]) is None
    assert pace([{"round": 5, "time/train_s": 2.0, "time/rollout_s": 3.0}]) == 1.0


def test_one_key_that_explains_all_has_all_the_importance_and_constant_ones_are_named() -> None:
    space = [{"key": key, "name": key, "values": [0, 1]} for key in ("explains", "idle", "constant")]
    points = [{"explains": at % 2, "idle": at // 2 % 2, "constant": 0} for at in range(20)]
    found = importance(space, LOSS, [(point, float(point["explains"])) for point in points])
    assert found.shares[0][0] == "explains" and found.shares[0][1] > 0.99
    assert found.constant == ["constant"] and sum(share for _, share in found.shares) == pytest.approx(1.0)
    most = importance(space, Objective("eval/accuracy", "maximize"), [(point, float(point["idle"])) for point in points])
    assert most.shares[0][0] == "idle"


def test_importance_that_cannot_be_told_says_why() -> None:
    space = [{"key": "a", "name": "a", "low": 0.0, "high": 9.0, "log": False, "whole": True}]
    points = [({"a": at}, float(at)) for at in range(10)]
    assert "needs 10 finished trials; there are 9" in importance(space, LOSS, points[:9]).note
    assert "same value" in importance(space, LOSS, [(point, 1.0) for point, _ in points]).note
    assert "two values" in importance(space, LOSS, [({"a": 1}, value) for _, value in points]).note
    assert importance(space, LOSS, points).shares == [("a", 1.0)]


def test_lanes_are_as_many_as_ran_at_once_and_idle_times_are_cut_out() -> None:
    stays = [Stay("trials/0000", 0, 10), Stay("trials/0001", 2, 4), Stay("trials/0002", 4, 12), Stay("trials/0003", 112, None)]
    bars, cuts = timeline.bars(stays, now=118)
    assert [(bar.lane, bar.start, bar.end) for bar in bars] == [(0, 0, 10), (1, 2, 4), (1, 4, 12), (0, 12, 18)]
    assert cuts == [12]


def test_times_of_a_study_are_those_of_its_sessions(tmp_path: Path) -> None:
    sessions = [{"began": 0.0, "ended": None}, {"began": 100.0, "ended": 130.0}]
    runs = [made._stay("trials/0000", 0.0, 20.0), made._stay("trials/0001", 110.0, 130.0)]
    read = folder.read(study(tmp_path, {0: {"eval/loss": 1.0, "$": 0.25}, 1: {"eval/loss": 1.0}}, sessions=sessions, runs=runs))
    assert (read.wall_seconds, read.seconds, read.usd) == (50.0, 20.0, 0.25)


def test_the_bill_is_for_the_time_that_places_were_taken(tmp_path: Path) -> None:
    """A run's own seconds leave out importing, loading and saving, and runs that were lost; the bill does not."""
    runs = [
        {"folder": "parents/sft-1", "began": 0.0, "ended": 60.0, "status": "finished", "reason": "", "usd_per_second": 0.25},
        {"folder": "trials/0000", "began": 60.0, "ended": 90.0, "status": "finished", "reason": "", "usd_per_second": 0.5},
        {"folder": "trials/0000", "began": 90.0, "ended": 100.0, "status": "lost", "reason": "", "usd_per_second": 0.5},
    ]
    read = folder.read(study(tmp_path, {0: {"eval/loss": 1.0, "$": 5.0}}, runs=runs))
    assert (read.taken_seconds, read.taken_usd, read.seconds, read.usd) == (100.0, 35.0, 10.0, 5.0)
    said = words.bill(read)
    assert said.startswith("places were taken for 1 min 40 s ($35.00), ") and said.endswith("is 10.0 s ($5.00)")
    del runs[1]["usd_per_second"]
    assert folder.read(study(tmp_path / "old", {}, runs=runs)).taken_usd is None


def test_a_book_knows_what_the_page_needs() -> None:
    assert logbook.NAME == "study.json" and logbook.is_whole(made.book())


def test_measurements_after_each_epoch_are_drawn_with_when_they_were_best(tmp_path: Path) -> None:
    read = folder.read(study(tmp_path, {0: {"eval/loss": 1.0}}, by_epoch=True))
    assert passes.figures(read, standing.of(read)) == []
    losses = [(0, 9.0), (1, 4.0), (2, 5.0)]
    rows = [{"round": at, "kind": "eval", "progress/epoch": at, "eval/perplexity": loss} for at, loss in losses]
    (tmp_path / "runs/sft-tiny-0000/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (figure,) = passes.figures(read, standing.of(read))
    assert (figure.title, figure.note) == ("perplexity", "0000 best after 1") and figure.drawing.count("<circle") == 3


def test_what_was_settled_without_a_run_does_not_count_towards_the_total_of_a_search(tmp_path: Path) -> None:
    place = study(tmp_path, {})
    ends = [("failed", "nan"), ("infeasible", "dominated by #0"), ("stopped", "interrupted")]
    trials = [made.trial(at, {"a": at}, *end) for at, end in enumerate(ends)]
    (place / "study.json").write_text(json.dumps(made.book(trials=trials[:2], planned=2)))
    read = folder.read(place)
    assert (words.counted(read), words.is_complete(read)) == (1, False)
    (place / "study.json").write_text(json.dumps(made.book(trials=trials[:2], planned=2, mode="characterize")))
    assert words.is_complete(folder.read(place))
    (place / "study.json").write_text(json.dumps(made.book(trials=trials, planned=2, mode="characterize")))
    assert not words.is_complete(folder.read(place))


def test_intervals_and_marks_are_short() -> None:
    assert words.ends(2.0, standing.Spread(1.97, 2.03, "")) == "± 0.03"
    assert words.ends(1500.0, standing.Spread(400.0, 2600.0, "")) == "± 1100"
    assert words.ends(2.0, standing.Spread(1.5, 2.1, "")) == "1.5 to 2.1"
    assert [name for _, name in of_values("x", [0.35121, 0.35129]).marks] == ["0.351225", "0.35125", "0.351275"]
    assert timeline._called(Stay("trials/0010/3", 0)) == "10·3" and timeline._called(Stay("parents/rm-ab-c", 0)) == "rm"


def test_single_runs_are_told_apart_on_the_prompts_that_both_were_evaluated_on(tmp_path: Path) -> None:
    read = folder.read(study(tmp_path, {0: {"eval/loss": 1.0}, 1: {"eval/loss": 1.0}, 2: {"eval/loss": 3.0}}))
    assert "One run a point" in words.likeness(read, standing.of(read))
    losses = {0: [1.0, 1.1, 0.9, 1.0], 1: [1.1, 0.9, 1.0, 1.0], 2: [3.0, 3.2, 2.9, 3.1]}
    for number, those in losses.items():
        run = tmp_path / f"runs/sft-tiny-{number:04d}"
        (run / "scores.jsonl").write_text(json.dumps({"round": 1, "loss": those, "tokens": [5, 5, 5, 5]}) + "\n")
        (run / "samples.jsonl").write_text(json.dumps({"round": 1, "prompt": "p", "response": "r"}) + "\n")
        result = Result(Status.finished, "sft", "t", "r", "s", metrics={"eval/loss": sum(those) / 4}, folder=str(run))
        (run / "result.json").write_text(result.to_json())
    said = words.likeness(read, standing.of(read))
    assert said.startswith("Not distinguishable from it on the held-out prompts, of the next 2: 0001.")


@pytest.mark.parametrize(
    ("option", "further", "said"),
    [
        ("characterize_sft", ["zero=none", "offload=none", "lora=dim64"], "sft.max_steps=50"),
        ("characterize_sft", ["zero=none", "offload=none", "lora=none", "debug=smoke"], "debug=smoke"),
        ("data_mix", ["sweep.trials=1"], "data=deepspeed_chat"),
    ],
)
def test_the_command_of_a_run_of_its_own_composes_to_the_very_cell(
    hydra: None, tmp_path: Path, option: str, further: list[str], said: str
) -> None:
    pinned = ["sft.micro_batch_size=4", "sft.gradient_checkpointing=false"] if option == "characterize_sft" else []
    typed = [f"sweep={option}", "tracker=none", f"paths.outputs={tmp_path}", "sweep.name=s", *further, *pinned]
    assert sweeper.main(typed, lambda place: [sys.executable, str(FAKE_TRIAL), str(place)]) == 0
    read = folder.read(tmp_path / "studies/s")
    trial = read.trials[0]
    words = shlex.split(standing.alone(read, trial))[3:]
    assert said in words and not any(each.startswith("sweep") for each in words)
    composed = compose("config", [*words, *companions(words)])
    frozen = OmegaConf.load(read.path / "trials/0000/config.yaml")
    assert isinstance(frozen, DictConfig)
    for part in frozen:
        if part not in ("sweep", "tracker"):
            assert OmegaConf.to_container(OmegaConf.masked_copy(composed, str(part)), resolve=True, enum_to_str=True) == (
                OmegaConf.to_container(OmegaConf.masked_copy(frozen, str(part)))
            ), part


def test_a_command_names_the_folder_of_ones_own_options(tmp_path: Path) -> None:
    read = folder.read(study(tmp_path, {0: {"eval/loss": 1.0}}, config_dir="/home/me/my conf"))
    assert read.command.endswith("sweep=mine data=demo '--config-dir=/home/me/my conf'")
    assert standing.alone(read, read.trials[0]).endswith("a=0 '--config-dir=/home/me/my conf'")
    keys = {"groups": {"stage": "rm", "lora": "dim8"}, "keys": ["sft.max_steps"]}
    gone = folder.read(study(tmp_path / "gone", {0: {"eval/loss": 1.0}}, option=keys))
    assert standing.alone(gone, gone.trials[0]) == ""
    (gone.path / "trials/0000/config.yaml").write_text("sft: {max_steps: [1, a b]}\n")
    assert standing.alone(gone, gone.trials[0]) == "python -m rlhf lora=dim8 'sft.max_steps=[1,a b]' stage=sft data=demo a=0"
