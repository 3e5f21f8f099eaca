"""The sweeper's side of pruning: which of the other trials one that asks is compared with."""

import json
from pathlib import Path

import pytest

from rlhf import verdicts
from rlhf.config import Pruner, Resource, SweepConfig
from rlhf.result import Objective, Result, Status
from sweeps.judge import Judge


def trial(folder: Path, number: int, losses: list[float], status: Status | None) -> Path:
    """A trial whose run was evaluated after each round; without a status it waits for a verdict on the last."""
    run, path = folder / "runs" / str(number), folder / "trials" / str(number)
    run.mkdir(parents=True)
    (path / verdicts.FOLDER).mkdir(parents=True)
    rows = [{"round": at, "kind": "eval", "eval/loss": loss} for at, loss in enumerate(losses, 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = path / verdicts.FOLDER / f"{len(losses):08d}.asked"
    asked.write_text(json.dumps({"run": str(run)}))
    if status is not None:
        asked.with_suffix(".json").write_text(json.dumps({"go": True, "by": "asha", "why": "", "skip": 0}))
        (path / "result.json").write_text(Result(status, "sft", "tiny", "r", "s", folder=str(run)).to_json())
    return path


@pytest.mark.parametrize(
    ("status", "goes_on"),
    [(Status.finished, False), (Status.stopped, False), (Status.failed, True), (Status.infeasible, True)],
)
def test_a_trial_that_failed_in_the_end_takes_nobodys_place(status: Status, goes_on: bool, tmp_path: Path) -> None:
    trials = {
        0: trial(tmp_path, 0, [0.9], Status.finished),
        1: trial(tmp_path, 1, [0.1], status),  # the best at the first rung
        2: trial(tmp_path, 2, [0.5], None),
    }
    sweep = SweepConfig(pruner=Pruner.asha, reduction=3, min_rung=1, brackets=1, resource=Resource.rounds)
    (ruling,) = Judge(sweep, [Objective("eval/loss", "minimize")]).watch(trials)
    assert (ruling.trial, ruling.verdict.go) == (2, goes_on), ruling.verdict.why
