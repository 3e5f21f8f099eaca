"""Trial and sweeper meet in the trial's folder: who answers first has decided, and what was decided outlives both."""

import json
import threading
import time
from pathlib import Path

import pytest

from rlhf import verdicts
from rlhf.config import Pruner, Resource, SweepConfig
from rlhf.result import Objective, Result, Status
from rlhf.verdicts import Rungs, Verdict
from sweeps.curves import read
from sweeps.judge import Judge

PRUNE = Verdict(False, "asha", "rung 1: eval/loss 0.9 against 0.1; 1 of 2 go on")
SETTINGS = SweepConfig(pruner=Pruner.asha, reduction=3, brackets=3, min_rung=1, warmup_trials=1, resource=Resource.tokens)


def judge() -> Judge:
    """A sweeper that has just been started."""
    return Judge(SETTINGS, [Objective("eval/loss", "minimize")])


def make_run(outputs: Path, name: str, *losses: float | str) -> Path:
    """A run's record, evaluated every five rounds of ten tokens each."""
    rows = [{"round": 0, "kind": "eval", "seconds": 0.5, "eval/loss": 9.9}]
    for at, loss in enumerate(losses, 1):
        rows.append({"round": 5 * at, "kind": "train", "seconds": at, "loss": 1.0, "progress/tokens": 50.0 * at})
        rows.append({"round": 5 * at, "kind": "eval", "seconds": at, "eval/loss": loss})  # type: ignore[dict-item]
    folder = outputs / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_trial(outputs: Path, number: int, *losses: float | str, asks: bool = True) -> Path:
    """A trial, at its last evaluation; with ``asks`` it waits there for a moment and is gone, as if killed."""
    run, trial = make_run(outputs, f"sft-{number}", *losses), outputs / f"{number:04d}"
    trial.mkdir(exist_ok=True)
    if asks:
        with pytest.raises(KeyboardInterrupt):
            Rungs(trial, run, 60, stopping=interrupt).prunes(5 * len(losses))
    return trial


def interrupt() -> bool:
    raise KeyboardInterrupt


def test_a_trial_waits_and_does_what_the_sweeper_says(tmp_path: Path) -> None:
    run = make_run(tmp_path, "sft-1", 0.9)
    rungs, ended = Rungs(tmp_path, run, 60), []
    waits = threading.Thread(target=lambda: ended.append(rungs.prunes(5)))
    waits.start()
    while (question := verdicts.waiting(tmp_path)) is None:
        time.sleep(0.001)
    assert (question.round, question.run) == (5, run) and not ended
    verdicts.settle(tmp_path, 5, PRUNE)
    waits.join()
    assert ended == [True] and rungs.last == PRUNE
    assert verdicts.waiting(tmp_path) is None and [each.round for each in verdicts.asked(tmp_path)] == [5]
    assert Rungs(tmp_path, run, 60).prunes(5)  # started again: at the same rung, without a sweeper


def test_without_a_sweeper_a_trial_goes_on_and_nothing_said_later_counts(tmp_path: Path) -> None:
    rungs = Rungs(tmp_path, tmp_path, 0.01)
    assert not rungs.prunes(5) and "no answer in 0.01 s" in rungs.last.why
    assert verdicts.settle(tmp_path, 5, PRUNE) == rungs.last  # too late: it has gone on
    stopped = Rungs(tmp_path, tmp_path, 60, stopping=lambda: True)
    assert not stopped.prunes(10) and "asked to stop" in stopped.last.why
    assert sorted(path.name for path in (tmp_path / verdicts.FOLDER).iterdir()) == [
        *("00000005.asked", "00000005.json", "00000010.asked", "00000010.json")
    ]


def test_a_trial_does_not_ask_where_nobody_judges(tmp_path: Path) -> None:
    verdicts.settle(prepared(tmp_path), 5, Verdict(True, "asha", "the best", skip=2))
    rungs = Rungs(tmp_path, tmp_path, 0.01)
    assert not any([rungs.prunes(round_) for round_ in (5, 10, 15, 20)])
    assert [each.round for each in verdicts.asked(tmp_path)] == [5, 20]


def prepared(trial: Path) -> Path:
    (trial / verdicts.FOLDER).mkdir()
    return trial


def test_the_sweeper_answers_from_the_records_of_all_trials(tmp_path: Path) -> None:
    trials = {0: make_trial(tmp_path, 0, 0.1), 1: make_trial(tmp_path, 1, 0.9), 2: make_trial(tmp_path, 2, 0.8, asks=False)}
    rulings = judge().watch(trials)
    assert [(each.trial, each.round, each.verdict.go) for each in rulings] == [(0, 5, True), (1, 5, False)]
    assert rulings[1].verdict.why == "rung 1: eval/loss 0.9 against 0.1; 1 of 2 go on"  # nothing is known of trial 2's run
    assert verdicts.given(trials[1], 5) == rulings[1].verdict
    assert judge().watch(trials) == []  # all has been said
    assert not Rungs(trials[0], tmp_path, 0.01).prunes(5) and Rungs(trials[1], tmp_path, 0.01).prunes(5)


def test_a_sweeper_that_was_killed_decides_the_same(tmp_path: Path) -> None:
    def history(outputs: Path, *, killed: bool) -> list[Verdict | None]:
        trials, judges = {}, judge()
        for number, loss in enumerate((0.5, 0.9, 0.3, "nan", 0.4, 0.7)):
            trials[number] = make_trial(outputs, number, loss)
            judges = judge() if killed else judges
            judges.watch(trials)
        return [verdicts.given(folder, 5) for folder in trials.values()]

    lived = history(tmp_path / "lived", killed=False)
    assert lived == history(tmp_path / "killed", killed=True)
    assert [verdict is not None and verdict.go for verdict in lived] == [True, False, True, False, False, False]


def test_a_run_that_another_study_finished_is_part_of_the_history(tmp_path: Path) -> None:
    run, trial = make_run(tmp_path, "sft-0", 0.1, 0.05), tmp_path / "reused"
    trial.mkdir()
    trials = {0: trial, 1: make_trial(tmp_path, 1, 0.9)}
    result = Result(Status.finished, "sft", "tiny", "r", "s", folder=str(run))
    (trial / "result.json").write_text(result.to_json())
    (ruling,) = judge().watch(trials)
    assert not ruling.verdict.go and "0.9 against 0.1" in ruling.verdict.why


def test_a_pruned_trial_may_be_let_go_on_after_all(tmp_path: Path) -> None:
    trials = {number: make_trial(tmp_path, number, loss) for number, loss in enumerate((0.1, 0.2))}
    judge().watch(trials)
    assert verdicts.given(trials[1], 5).go is False  # type: ignore[union-attr]
    assert judge().promotable(trials) == []
    trials |= {number: make_trial(tmp_path, number, 0.5) for number in range(2, 6)}
    judge().watch(trials)
    assert judge().promotable(trials) == [1]  # of six, two go on
    assert judge().promotable(trials, running={1}) == []  # it has its verdict, and is still saving
    assert judge().promotable(trials, running={0}) == [1]  # the best one is behind nobody for being under way
    assert judge().promotable({number: trials[number] for number in (0, 1)}) == []
    judge().readmit(trials[1])
    assert judge().promotable(trials) == [] and not Rungs(trials[1], tmp_path, 0.01).prunes(5)


def test_curves_are_read_from_torn_records(tmp_path: Path) -> None:
    run = make_run(tmp_path, "sft-0", 0.5, "nan")
    with (run / "metrics.jsonl").open("a") as record:
        record.write('{"round": 15, "kind": "eval", "eval/lo')
    first, second = read(run)
    assert (first.round, first.tokens, first.values["eval/loss"], first.values["time/seconds"]) == (5, 50.0, 0.5, 1.0)
    assert first.values["loss"] == 1.0 and second.values["eval/loss"] != second.values["eval/loss"]
    assert read(tmp_path / "nothing") == []
