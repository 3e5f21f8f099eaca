"""One stage, from a checked configuration to a typed result. Nothing here knows which stage it is."""

import fcntl
import json
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
from omegaconf import OmegaConf

from rlhf import artifact, checkpoint, loop, provenance, ranks
from rlhf.artifact import Artifact
from rlhf.config import Run, Zero
from rlhf.data.corpus import Corpus
from rlhf.engine.base import Engine
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.identity import Identity
from rlhf.metrics import Metrics
from rlhf.result import Result, Status
from rlhf.sealed import Broken, make_folder, open_sealed, write_atomically
from rlhf.signature import ENGINE_READS
from rlhf.stages import TABLE
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stopping import StopRequest
from rlhf.tracking.record import Record
from rlhf.tracking.screen import Screen, warn
from rlhf.tracking.tracker import Tracker, open_tracker

GIB = 2**30
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
NO_RESULT = {LOCK, "config.yaml", "overrides.txt", ranks.JOB}
"""What the folder of a run holds that could not start."""


def finished(identity: Identity) -> Result | None:
    """The result of a finished run of the same signature whose artifact is there and whole, else None."""
    result = Result.read(identity.folder / "result.json")
    if result is None or result.status is not Status.finished:
        return None
    try:
        open_sealed(identity.folder / "artifact")
    except Broken as error:
        warn(f"{error}; {identity.name} is run again")
        return None
    return result


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the run's folder; a second process that wants the same run waits here, and then finds it finished.

    Raises:
        Fault: the folder cannot be made or written.
    """
    make_folder(folder, "paths.outputs")
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warn(f"{folder.name}: another process is at it; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Stop(Protocol):
    """Whether the run shall end after the round in hand."""

    @property
    def reason(self) -> str:
        """`interrupted` or `preempted`; empty while nobody asked."""
        ...

    def requested(self) -> bool:
        """Whether somebody asked."""
        ...


def run_stage(run: Run, identity: Identity, parents: Mapping[str, Artifact], corpus: Corpus, stop: StopRequest) -> Result:
    """Train, evaluate and save one stage, here or on ranks of their own; every end but a fault of the user is a ``Result``.

    Raises:
        Fault: something the user named cannot be used (data, model, batch); nothing was trained.
    """
    _write_config(run, identity.folder)
    if run.zero is Zero["none"]:
        engine = TorchEngine(run.device, run.precision, run.deterministic)
        return work(run, identity, parents, corpus, engine, stop)
    result = _unfinished(run, identity)
    try:
        result.status, result.reason = Status.failed, "rank_lost"
        result = ranks.launch(ranks.Job(run, identity, parents), result, stop)
    except KeyboardInterrupt:
        _stopped_at_once(result, stop)
    write_atomically(identity.folder / "result.json", result.to_json())
    return result


def work(run: Run, identity: Identity, parents: Mapping[str, Artifact], corpus: Corpus, engine: Engine, stop: Stop) -> Result:
    """This process's part of a stage; rank 0 keeps the record and the result.

    Raises:
        Fault: something the user named cannot be used (data, model, batch); nothing was trained.
    """
    folder = identity.folder
    engine.reset_peak_memory()
    result = _unfinished(run, identity)
    watcher: _Watcher | _Follower | None = None
    try:
        kind = TABLE[identity.stage]
        corpus.examples(identity.stage, "held_out")  # now, not after hours: is there anything to measure on?
        view = cast(Run, SimpleNamespace(**{name: getattr(run, name) for name in (*ENGINE_READS, *kind.reads)}))
        with _limited_memory(run):
            with engine.phase("setup"):
                stage = kind(Setting(view, corpus, engine, {name: parent.path for name, parent in parents.items()}))
            watcher = (_Watcher if engine.rank == 0 else _Follower)(run, identity, stage, engine)
            _work(run, identity, stage, engine, watcher, stop, result)
    except loop.Stopped as stopped:
        result.status, result.reason, result.message = Status.stopped, stop.reason, str(stopped)
    except loop.NonFinite as error:
        result.status, result.reason, result.message = Status.failed, "nan", str(error)
    except KeyboardInterrupt:  # asked twice: the round in hand is lost, what is behind the last checkpoint is done again
        _stopped_at_once(result, stop)
    except Exception as error:
        if watcher is None and isinstance(error, Fault):
            raise
        _classify(error, result, folder)
    result.peak_memory_gib = engine.peak_memory_gib()
    if engine.rank == 0:
        if isinstance(watcher, _Watcher):
            result.seconds, result.metrics = watcher.seconds, watcher.final_metrics
            if run.hardware.usd_per_hour is not None:
                result.cost_usd = result.seconds / 3600 * run.hardware.usd_per_hour * run.ranks
        write_atomically(folder / "result.json", result.to_json())  # first: a kill from here on loses nothing
        if result.status is Status.finished:
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        if isinstance(watcher, _Watcher):
            watcher.close(result)
    return result


def _unfinished(run: Run, identity: Identity) -> Result:
    return Result(
        status=Status.failed,
        stage=identity.stage,
        model=run.model.name,
        run_signature=identity.run_signature,
        result_signature=identity.result_signature,
        folder=str(identity.folder),
        parents=identity.parents,
        seed=run.seed,
        commit=provenance.commit(),
        versions=provenance.versions(),
    )


def _stopped_at_once(result: Result, stop: Stop) -> None:
    result.status, result.reason, result.message = Status.stopped, stop.reason, "stopped at once, without a new checkpoint"


def _work(
    run: Run,
    identity: Identity,
    stage: Stage[Any],
    engine: Engine,
    watcher: "_Watcher | _Follower",
    stop: Stop,
    result: Result,
) -> None:
    """Evaluate, train from the checkpoint if there is one, evaluate, save."""
    if watcher.first_round == 0:
        watcher.evaluated(0, loop.measure(stage, engine, 0))
    loop.train(stage, engine, watcher, run.seed, watcher.first_round, stop.requested)
    watcher.evaluated(stage.rounds, loop.measure(stage, engine, stage.rounds))
    model, tokenizer = stage.export()
    about = {
        "kind": stage.makes,
        "stage": identity.stage,
        "model": run.model.name,
        "data": run.data.name,
        "seed": run.seed,
        "result_signature": identity.result_signature,
        "parents": identity.parents,
        "metrics": {name: value for name, value in watcher.final_metrics.items() if abs(value) < float("inf")},
    }
    weights = engine.weights(model)
    if engine.rank == 0:
        artifact.save(identity.folder / "artifact", model, weights, tokenizer, about)
    result.status, result.artifact = Status.finished, str(identity.folder / "artifact")


class _Follower:
    """On the other ranks: takes part in what all ranks must do together, and keeps nothing."""

    def __init__(self, run: Run, identity: Identity, stage: Stage[Any], engine: Engine) -> None:
        self._engine = engine
        self.first_round = _resume(run, identity.folder, engine).round
        self.final_metrics: dict[str, float] = {}

    def log(self, round_: int, metrics: Metrics) -> None:
        pass

    def evaluated(self, round_: int, evaluation: Evaluation) -> None:
        pass

    def save(self, round_: int) -> None:
        self._engine.tensors()


class _Watcher:
    """Carries what the loop reports to the record, the tracker, the screen and the checkpoint."""

    def __init__(self, run: Run, identity: Identity, stage: Stage[Any], engine: Engine) -> None:
        self._engine, self._folder = engine, identity.folder
        if run.fresh:
            _clear(identity.folder)  # only now that everything could be loaded and built
        state = _resume(run, identity.folder, engine)
        self.first_round, self._tokens = state.round, state.tokens
        engine.take_costs()  # setting up belongs to no row
        self._seconds_before, self._began = state.seconds, time.perf_counter()
        self._metrics = Record(identity.folder / "metrics.jsonl", state.metrics_rows)
        self._samples = Record(identity.folder / "samples.jsonl", state.samples_rows)
        self._scores = Record(identity.folder / "scores.jsonl", sys.maxsize)  # a row that comes again is the same
        self.final_metrics: dict[str, float] = {}
        config = json.loads(json.dumps(OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)))
        about = {
            "folder": str(identity.folder),
            "id": identity.name.replace(".", "_"),
            "name": identity.name,
            "stage": identity.stage,
            "tags": [run.model.name, run.data.name, f"zero-{run.zero.name}", f"lora-{run.lora.dim}"],
            "config": config,
        }
        self._tracker: Tracker = open_tracker(run.tracker, about)
        self.screen = Screen(identity.name, identity.stage, stage.rounds, self.first_round, run.hardware.usd_per_hour)
        going_on = f", going on after {self.first_round} of {stage.rounds}" if self.first_round else ""
        self.screen.say(f"{identity.name}: in {identity.folder}{going_on}")
        for note in stage.notes:
            self.screen.say(f"  {note}")

    @property
    def seconds(self) -> float:
        """Time spent on the run so far, over all its sessions."""
        return self._seconds_before + time.perf_counter() - self._began

    def log(self, round_: int, metrics: Metrics) -> None:
        row = metrics.values_by_name()
        self._tokens += row.pop("perf/tokens", 0.0)
        measured = metrics["perf/tokens"].value if "perf/tokens" in metrics else 0.0
        row |= self._engine.take_costs()
        spent = sum(value for name, value in row.items() if name.startswith("time/"))
        row["perf/tokens_per_second"] = measured / max(spent, 1e-9)
        row["progress/tokens"] = self._tokens
        if (peak := self._engine.peak_memory_gib()) is not None:
            row["mem/peak_gib"] = peak
        self.final_metrics["loss"] = row["loss"]
        self.final_metrics["perf/tokens_per_second"] = row["perf/tokens_per_second"]
        self._write("train", round_, row)

    def evaluated(self, round_: int, evaluation: Evaluation) -> None:
        row = evaluation.metrics.values_by_name()
        self.final_metrics |= row
        self._write("eval", round_, row | self._engine.take_costs())
        for sample in evaluation.samples:
            self._samples.append({"round": round_, **sample})
        if evaluation.scores:
            self._scores.append({"round": round_, **evaluation.scores})
        if evaluation.samples:
            self._tracker.table(round_, evaluation.samples)

    def save(self, round_: int) -> None:
        state = checkpoint.TrainState(
            round=round_,
            optimizer_steps=self._engine.steps,
            seconds=self.seconds,
            tokens=self._tokens,
            metrics_rows=self._metrics.rows,
            samples_rows=self._samples.rows,
        )
        checkpoint.save(self._folder / CHECKPOINTS, state, self._engine.tensors())

    def close(self, result: Result) -> None:
        """End record and tracker."""
        self._metrics.close()
        self._samples.close()
        self._scores.close()
        self._tracker.finish({**result.metrics, "seconds": result.seconds}, result.exit_code)

    def _write(self, kind: str, round_: int, row: dict[str, float]) -> None:
        self._metrics.append({"round": round_, "kind": kind, "seconds": round(self.seconds, 3), **row})
        self._tracker.log(round_, row)
        self.screen.progress(round_, row, always=kind == "eval")


def _resume(run: Run, folder: Path, engine: Engine) -> checkpoint.TrainState:
    """Put the newest whole checkpoint into the engine, if there is one and it is wanted, and say where it stands."""
    found = None if run.fresh else checkpoint.load_latest(folder / CHECKPOINTS)
    if found is None:
        return checkpoint.TrainState(0, 0, 0.0, 0.0, 0, 0)
    state, tensors = found
    engine.load(tensors, state.optimizer_steps)
    return state


def _write_config(run: Run, folder: Path) -> None:
    """``config.yaml``, the whole configuration; ``overrides.txt``, what the person typed, where Hydra knows it."""
    from hydra.core.hydra_config import HydraConfig  # only to ask whether Hydra is running

    OmegaConf.save(OmegaConf.structured(run), folder / "config.yaml")
    if HydraConfig.initialized():
        (folder / "overrides.txt").write_text("\n".join(HydraConfig.get().overrides.task) + "\n")


def _classify(error: Exception, result: Result, folder: Path) -> None:
    """Tell memory that ran out from everything else, and keep the traceback of the rest."""
    text = str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text or "out of memory" in text:
        result.status, result.reason, result.message = (
            Status.infeasible,
            "oom",
            text.strip().splitlines()[0] if text else "out of memory",
        )
        return
    if isinstance(error, RuntimeError) and "onnection" in text and "peer" in text:  # what gloo and nccl say of each other
        result.status, result.reason, result.message = Status.failed, "rank_lost", "another rank is gone"
        return
    (folder / "crash.txt").write_text("".join(traceback.format_exception(error)))
    result.status, result.reason = Status.failed, "crash"
    result.message = (
        f"{type(error).__name__}: {text.strip().splitlines()[0] if text.strip() else ''} (traceback in {folder / 'crash.txt'})"
    )


@contextmanager
def _limited_memory(run: Run) -> Iterator[None]:
    """On a CPU with a stated memory, make an allocation beyond it fail here instead of waking the kernel's killer."""
    if run.hardware.memory_gib is None or torch.cuda.is_available():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(run.hardware.memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _clear(folder: Path) -> None:
    for name in (CHECKPOINTS, "artifact"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("result.json", "metrics.jsonl", "samples.jsonl", "scores.jsonl", "crash.txt", "report.html"):
        (folder / name).unlink(missing_ok=True)
