"""What the loop reports to: the record, the tracker, the screen and the checkpoint, kept by rank 0."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from rlhf import checkpoint, followed
from rlhf.config import Run
from rlhf.doctor.live import TOLD, Live
from rlhf.engine.base import Engine
from rlhf.identity import Identity
from rlhf.metrics import Metrics
from rlhf.price import per_second
from rlhf.replay.places import CAPSULE
from rlhf.result import Result
from rlhf.selection import Selection
from rlhf.stages.interface import Evaluation, Stage
from rlhf.tracking.record import KEPT, Record
from rlhf.tracking.screen import Screen
from rlhf.tracking.tracker import Tracker, open_tracker

CHECKPOINTS = "checkpoints"
BEST = "best"
"""Folder of the weights of the best evaluation, while a run with `keep_best` goes on."""
STAGE = "stage/"
"""Begins the names of a stage's own state in a checkpoint."""


class Follower:
    """On the other ranks: takes part in what all ranks must do together, and keeps nothing."""

    def __init__(self, run: Run, identity: Identity, stage: Stage[Any], engine: Engine) -> None:
        self._engine, self._stage, self._folder = engine, stage, identity.folder
        state = _resume(run, identity.folder, stage, engine)
        self.first_round = state.round
        self.selection = _selection(run, identity.stage, state, self.keep)
        self.final_metrics: dict[str, float] = {}
        engine.take_costs()

    def log(self, round_: int, metrics: Metrics) -> None:
        """Give rank 0 what it cost this rank."""
        self._engine.take_costs()
        self._stage.take_rows()

    def evaluated(self, round_: int, evaluation: Evaluation) -> None:
        """Give rank 0 what it cost this rank."""
        self._engine.take_costs()

    def kept(self, round_: int, evaluation: Evaluation) -> None:
        """Give rank 0 what it cost this rank."""
        self._engine.take_costs()

    def save(self, round_: int) -> None:
        """Give rank 0 this rank's part."""
        carried(self._stage, self._engine)

    def keep(self, round_: int) -> None:
        """Give rank 0 this rank's part."""
        carried(self._stage, self._engine)

    def take_best(self) -> None:
        """Put the weights of the best evaluation back."""
        _take_best(self._folder, self._stage, self._engine)


class Watcher:
    """Carries what the loop reports to the record, the tracker, the screen and the checkpoint."""

    def __init__(self, run: Run, identity: Identity, stage: Stage[Any], engine: Engine) -> None:
        self._engine, self._stage, self._folder = engine, stage, identity.folder
        if run.fresh:
            _clear(identity.folder)  # only now that everything could be loaded and built
        state = _resume(run, identity.folder, stage, engine)
        self.first_round, self._tokens, self._train_seconds = state.round, state.tokens, state.train_seconds
        self._untimed = 0.0 if state.train_seconds else state.tokens  # of a checkpoint that does not say how long they took
        self.selection = _selection(run, identity.stage, state, self.keep)
        engine.take_costs()  # setting up belongs to no row
        self._seconds_before, self._began = state.seconds, time.perf_counter()
        self._metrics = Record(identity.folder / "metrics.jsonl", state.metrics_rows)
        self._samples = Record(identity.folder / "samples.jsonl", state.samples_rows)
        self._scores = Record(identity.folder / "scores.jsonl", sys.maxsize)  # a row that comes again is the same
        self._kept = Record(identity.folder / KEPT, state.kept_rows) if stage.keeps_rows else None
        self._live = Live(identity.folder, identity.stage, self.first_round)
        self.final_metrics: dict[str, float] = {}
        self._tracker: Tracker = open_tracker(run, identity, self.first_round)
        price = per_second(run.hardware.usd_per_hour, run.ranks)
        self.screen = Screen(identity.name, identity.stage, stage.rounds, self.first_round, price, state.seconds)
        going_on = f", going on after {self.first_round} of {stage.rounds}" if self.first_round else ""
        self.screen.say(f"{identity.name}: in {identity.folder}{going_on}")
        for note in stage.notes:
            self.screen.say(f"  {note}")

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, over all its sessions."""
        return self._seconds_before + time.perf_counter() - self._began

    def log(self, round_: int, metrics: Metrics) -> None:
        """A row of training metrics."""
        row = metrics.values_by_name()
        self._tokens += row.pop("perf/tokens", 0.0)
        measured = metrics["perf/tokens"].value if "perf/tokens" in metrics else 0.0
        row |= self._engine.take_costs()
        spent = sum(value for name, value in row.items() if name.startswith("time/"))
        row["perf/tokens_per_second"] = measured / max(spent, 1e-9)
        self._train_seconds += spent
        row["progress/tokens"] = self._tokens
        if (peak := self._engine.peak_memory_gib()) is not None:
            row["mem/peak_gib"] = peak
        if "loss" in row:  # not where nothing was learnt
            self.final_metrics["loss"] = row["loss"]
        self.final_metrics["perf/tokens_per_second"] = (self._tokens - self._untimed) / max(self._train_seconds, 1e-9)
        self._write("train", round_, row)
        if self._kept is not None:
            self._kept.extend(self._stage.take_rows())

    def evaluated(self, round_: int, evaluation: Evaluation) -> None:
        """A row of held-out measurements, and samples."""
        self._evaluated(round_, evaluation, {})

    def kept(self, round_: int, evaluation: Evaluation) -> None:
        """The same of earlier weights, which the run ends with after ``round_`` rounds."""
        self._evaluated(round_, evaluation, {"kept": self.selection.best_round})

    def _evaluated(self, round_: int, evaluation: Evaluation, whose: dict[str, int]) -> None:
        row = evaluation.metrics.values_by_name()
        self.final_metrics |= row
        self._write("eval", round_, row | self._engine.take_costs())
        for sample in evaluation.samples:
            self._samples.append({"round": round_, **whose, **sample})
        if evaluation.scores:
            self._scores.append({"round": round_, **evaluation.scores})
        if evaluation.samples:
            self._tracker.table(round_, evaluation.samples)

    def save(self, round_: int) -> None:
        """A checkpoint from which round ``round_`` is the next."""
        self._save(round_, CHECKPOINTS)

    def keep(self, round_: int) -> None:
        """Weights that are the best so far."""
        self._save(round_, BEST)

    def take_best(self) -> None:
        """Put the weights of the best evaluation back."""
        _take_best(self._folder, self._stage, self._engine)

    def _save(self, round_: int, folder: str) -> None:
        state = checkpoint.TrainState(
            round=round_,
            optimizer_steps=self._engine.steps,
            seconds=self.seconds,
            tokens=self._tokens,
            metrics_rows=self._metrics.rows,
            samples_rows=self._samples.rows,
            best=self.selection.best,
            best_round=self.selection.best_round,
            waited=self.selection.waited,
            train_seconds=self._train_seconds,
            kept_rows=0 if self._kept is None else self._kept.rows,
        )
        checkpoint.save(self._folder / folder, state, carried(self._stage, self._engine))

    def close(self, result: Result) -> None:
        """End record and tracker."""
        self._metrics.close()
        self._samples.close()
        self._scores.close()
        if self._kept is not None:
            self._kept.close()
        self._live.close()
        self._tracker.finish(result)

    def abandon(self, result: Result) -> None:
        """End a run in which nothing was trained as if it had not begun."""
        self.close(result)
        _clear(self._folder)

    def _write(self, kind: str, round_: int, row: dict[str, float]) -> None:
        if self._stage.rounds_per_epoch is not None:
            row["progress/epoch"] = round(float(round_ / self._stage.rounds_per_epoch), 6)
        whole = {"round": round_, "kind": kind, "seconds": round(self.seconds, 3), **row}
        self._metrics.append(whole)
        self._tracker.log(round_, row, held_out=kind == "eval")
        self.screen.progress(round_, row, always=kind == "eval")
        for finding in self._live.look(whole):
            self.screen.say(f"{finding.severity.name}: {finding}")
            self._tracker.alert(round_, finding.name, str(finding))


def _selection(run: Run, stage: str, state: checkpoint.TrainState, keep: Callable[[int], None]) -> Selection:
    wanted = keep if getattr(run, stage).keep_best else None
    stops, objective = followed.early_stop(run, stage), followed.objective(run, stage)
    return Selection(stops, objective, wanted, state.best, state.best_round, state.waited)


def _take_best(folder: Path, stage: Stage[Any], engine: Engine) -> None:
    engine.agree(False)  # rank 0 has written them before any other rank reads
    found = checkpoint.load_latest(folder / BEST)
    assert found is not None, "the best evaluation was kept"
    put_back(*found, stage, engine)


def put_back(state: checkpoint.TrainState, tensors: dict[str, Tensor], stage: Stage[Any], engine: Engine) -> None:
    """Let engine and stage go on from a checkpoint."""
    engine.load(tensors, state.optimizer_steps)
    stage.restore({name.removeprefix(STAGE): value for name, value in tensors.items() if name.startswith(STAGE)})


def carried(stage: Stage[Any], engine: Engine) -> dict[str, Tensor]:
    """All tensors of a checkpoint. Every rank must call it."""
    return engine.tensors() | {f"{STAGE}{name}": value for name, value in stage.state().items()}


def _resume(run: Run, folder: Path, stage: Stage[Any], engine: Engine) -> checkpoint.TrainState:
    """Put the newest whole checkpoint into engine and stage, if there is one and it is wanted, and say where it stands."""
    found = None if run.fresh else checkpoint.load_latest(folder / CHECKPOINTS)
    if found is None:
        return checkpoint.TrainState(0, 0, 0.0, 0.0, 0, 0)
    put_back(*found, stage, engine)
    return found[0]


def _clear(folder: Path) -> None:
    for name in (CHECKPOINTS, BEST, CAPSULE, "artifact", "artifact_ema", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("result.json", "metrics.jsonl", "samples.jsonl", "scores.jsonl", KEPT, TOLD, "crash.txt", "report.html"):
        (folder / name).unlink(missing_ok=True)
