"""A real trial that its study ends at a rung: on two ranks, with all that a pruned run leaves, and gone on with later."""

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

from launchers import pool, trial
from rlhf import chain, verdicts
from rlhf.config import Pruner
from rlhf.result import Objective, Result, Status
from rlhf.verdicts import Verdict
from sweeps.judge import Judge
from tests.stages.small import make_run

SMALL = (
    *("stage=sft", "sft.max_steps=20", "sft.log_every=20", "sft.eval_every=4", "sft.save_every=0", "sft.micro_batch_size=2"),
    *("sweep.pruner=asha", "sweep.verdict_seconds=60"),
)


def freeze(outputs: Path, number: int, *overrides: str) -> Path:
    """The folder of a trial that has not begun."""
    folder = outputs / "studies/s/trials" / f"{number:04d}"
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.structured(make_run(outputs, *SMALL, *overrides)), folder / "config.yaml")
    return folder


def rounds(folder: Path, kind: str) -> list[int]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["round"] for row in rows if row["kind"] == kind]


def test_two_ranks_are_pruned_together_by_a_sweeper_that_reads_their_record(tmp_path: Path) -> None:
    other = freeze(tmp_path, 0)
    record = tmp_path / "runs/other"
    record.mkdir(parents=True)
    rows = [{"round": at, "kind": "eval", "eval/loss": 9.0 if at < 12 else 0.0} for at in (4, 8, 12)]
    (record / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = Result(Status.finished, "sft", "tiny", "r", "s", folder=str(record))
    (other / "result.json").write_text(done.to_json())
    folder = freeze(tmp_path, 1, "zero=2", "ranks=2", "sweep.resource=rounds")
    run = trial.read_config(folder)
    judge = Judge(run.sweep, [Objective("eval/loss", "minimize")])

    rulings = []
    with (folder / "log.txt").open("w") as log:
        environment = pool.environment() | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "launchers.trial", str(folder), str(os.getpid())]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            rulings += judge.watch({0: other, 1: folder})
            time.sleep(0.02)
    assert process.returncode == 0, (folder / "log.txt").read_text()
    assert [(each.trial, each.round, each.verdict.go) for each in rulings] == [(1, 4, True), (1, 12, False)]
    result = Result.load(folder / "result.json")
    assert (result.status, result.reason, result.artifact) == (Status.pruned, "asha", None)
    assert result.message.startswith("rung 2: eval/loss ") and result.message.endswith("ended after 12 of 20 rounds")
    ran = Path(result.folder)
    assert rounds(ran, "eval") == [0, 4, 8, 12] and rounds(ran, "train") == [4, 8, 12]
    assert result.metrics["eval/loss"] > 0
    assert [path.name for path in (ran / "checkpoints").iterdir()] == ["00000012"]
    assert not list(ran.glob(".rank*.json"))  # no rank has lost another one


def test_a_pruned_run_goes_on_where_it_ended_and_its_parents_are_not_asked_for(tmp_path: Path) -> None:
    run = make_run(tmp_path, *SMALL, "stage=rm", "rm.init=sft", "rm.max_steps=6", "rm.eval_every=2")
    verdicts_of = tmp_path / "trial"
    (verdicts_of / verdicts.FOLDER).mkdir(parents=True)
    for round_ in (2, 4):
        verdicts.settle(verdicts_of, round_, Verdict(round_ == 2, "asha", "as said"))
    result = chain.execute(run, trial=verdicts_of)
    assert (result.stage, result.status, result.message) == ("rm", Status.pruned, "as said; ended after 4 of 6 rounds")
    assert [each.round for each in verdicts.asked(verdicts_of)] == [2, 4]  # rounds of rm; sft asked nothing
    again = chain.execute(run, trial=verdicts_of)  # as after a kill in between
    assert (again.status, again.message) == (Status.pruned, result.message)
    assert again.metrics["eval/accuracy"] == result.metrics["eval/accuracy"]
    on = dataclasses.replace(run, sweep=dataclasses.replace(run.sweep, pruner=Pruner.none))
    finished = chain.execute(on)
    assert finished.status is Status.finished and finished.folder == result.folder
    assert rounds(Path(finished.folder), "eval") == [0, 2, 4, 6]
    assert not (Path(finished.folder) / "checkpoints").exists()
