"""One stage, from a checked configuration to a typed result. Nothing here knows which stage it is."""

import fcntl
import resource
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from omegaconf import OmegaConf

from rlhf import artifact, ending, loop, provenance, ranks
from rlhf.artifact import Artifact
from rlhf.config import Run, Zero
from rlhf.data.corpus import Corpus
from rlhf.engine.base import Engine, NonFinite
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.identity import Identity
from rlhf.lineage import LEARNS
from rlhf.price import per_second
from rlhf.replay.capture import Capture
from rlhf.result import Result, Status
from rlhf.runs import LOCK
from rlhf.sealed import Broken, make_folder, open_sealed, write_atomically
from rlhf.signature import ENGINE_READS
from rlhf.stages.interface import Setting, Stage
from rlhf.stages.table import TABLE
from rlhf.stopping import Stop, StopRequest
from rlhf.tracking.screen import warn
from rlhf.verdicts import Rungs
from rlhf.watcher import BEST, CHECKPOINTS, Follower, Watcher

AVERAGE = "artifact_ema"
"""Beside `artifact`, where a stage keeps a running average of its weights."""
TOKENS = "tokens"
"""Folder of token ids, which all runs share."""
NO_RESULT = {LOCK, "config.yaml", "overrides.txt", ranks.JOB, *provenance.FILES}
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


def run_stage(
    run: Run,
    identity: Identity,
    parents: Mapping[str, Artifact],
    corpus: Corpus,
    stop: StopRequest,
    trial: Path | None = None,
) -> Result:
    """Train, evaluate and save one stage, here or on ranks of their own; every end but a fault of the user is a ``Result``.

    ``trial`` is the folder in which a study leaves its verdicts, if it may end the run early.

    Raises:
        Fault: something the user named cannot be used (data, model, batch); nothing was trained.
    """
    _write_down(run, identity.folder, corpus)
    if run.zero is Zero["none"]:
        engine = TorchEngine(run.device, run.precision, run.deterministic)
        return work(run, identity, parents, corpus, engine, stop, trial)
    result = ending.unfinished(run, identity)
    try:
        result.status, result.reason = Status.failed, "rank_lost"
        result = ranks.launch(ranks.Job(run, identity, parents, trial), result, stop)
    except KeyboardInterrupt:
        ending.stopped_at_once(result, stop)
    write_atomically(identity.folder / "result.json", result.to_json())
    return result


def work(
    run: Run,
    identity: Identity,
    parents: Mapping[str, Artifact],
    corpus: Corpus,
    engine: Engine,
    stop: Stop,
    trial: Path | None = None,
) -> Result:
    """This process's part of a stage; rank 0 keeps the record and the result.

    Raises:
        Fault: something the user named cannot be used (data, model, batch); nothing was trained.
    """
    folder = identity.folder
    engine.reset_peak_memory()
    result = ending.unfinished(run, identity)
    watcher: Watcher | Follower | None = None
    rungs = None if trial is None else Rungs(trial, folder, run.sweep.verdict_seconds, stop.requested)
    try:
        kind = TABLE[identity.stage]
        corpus.examples(LEARNS[identity.stage], "held_out")  # now, not after hours: is there anything to measure on?
        view = cast(Run, SimpleNamespace(**{name: getattr(run, name) for name in (*ENGINE_READS, *kind.reads)}))
        with _limited_memory(run):
            with engine.phase("setup"):
                paths = {name: parent.path for name, parent in parents.items()}
                stage = kind(Setting(view, corpus, engine, paths, Path(run.paths.cache or run.paths.outputs) / TOKENS))
            if engine.rank == 0:
                _warn_of_warm_up(stage, identity)
            watcher = (Watcher if engine.rank == 0 else Follower)(run, identity, stage, engine)
            _work(run, identity, stage, engine, watcher, stop, result, rungs)
    except loop.Stopped as stopped:
        result.status, result.reason, result.message = Status.stopped, stop.reason, str(stopped)
    except loop.Pruned as pruned:
        result.status = Status.pruned
        if rungs is not None:
            result.reason, result.message = rungs.last.by, f"{rungs.last.why}; {pruned}"
    except NonFinite as error:
        result.status, result.reason, result.message = Status.failed, "nan", str(error)
    except KeyboardInterrupt:  # asked twice: the round in hand is lost, what is behind the last checkpoint is done again
        ending.stopped_at_once(result, stop)
    except Exception as error:
        if isinstance(error, Fault) and (watcher is None or engine.steps == 0):
            if isinstance(watcher, Watcher):
                result.reason, result.message = "fault", str(error)
                watcher.abandon(result)
            raise
        ending.broken(error, result, folder)
    result.peak_memory_gib = engine.peak_memory_gib()
    if engine.rank == 0:
        if isinstance(watcher, Watcher):
            result.seconds, result.metrics = watcher.seconds, watcher.final_metrics
            if (price := per_second(run.hardware.usd_per_hour, run.ranks)) is not None:
                result.cost_usd = result.seconds * price
        write_atomically(folder / "result.json", result.to_json())  # first: a kill from here on loses nothing
        if result.status is Status.finished:
            for kept in (CHECKPOINTS, BEST):
                shutil.rmtree(folder / kept, ignore_errors=True)
        if isinstance(watcher, Watcher):
            watcher.close(result)
    return result


def _work(
    run: Run,
    identity: Identity,
    stage: Stage[Any],
    engine: Engine,
    watcher: Watcher | Follower,
    stop: Stop,
    result: Result,
    rungs: Rungs | None,
) -> None:
    """Evaluate, train from the checkpoint if there is one, evaluate, save."""
    selection = watcher.selection
    if watcher.first_round == 0:
        loop.evaluate(stage, engine, watcher, selection, 0)
    if rungs is not None and engine.agree(engine.rank == 0 and rungs.pruned_at(watcher.first_round)):
        measured = loop.measure(stage, engine, watcher.first_round)  # it is in the record, but this process has not seen it
        watcher.final_metrics |= measured.metrics.values_by_name()
        raise loop.Pruned(f"ended after {watcher.first_round} of {stage.rounds} rounds")
    planned = stage.rounds
    prunes = None if rungs is None else rungs.prunes
    with closing(Capture(run, identity, stage, engine)) as capture:
        begins, asks = watcher.first_round, stop.requested
        stage.rounds = loop.train(stage, engine, watcher, run.seed, begins, asks, selection, prunes, capture)
    if engine.rank == 0 and (missed := capture.missed(stage.rounds)):
        warn(missed)
    if selection.evaluated_round != stage.rounds:
        loop.evaluate(stage, engine, watcher, selection, stage.rounds)
    if selection.keep is not None:
        result.message = _keep_best(stage, engine, watcher)
    if stage.rounds < planned:
        result.reason, early = "early_stop", f"ended after {stage.rounds} of {planned} rounds"
        result.message = "; ".join(filter(None, (early, result.message)))
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
    weights, average = engine.weights(model), stage.averaged()
    if engine.rank == 0:
        artifact.save(identity.folder / "artifact", model, weights, tokenizer, about)
        if average is not None:
            artifact.save(identity.folder / AVERAGE, model, average, tokenizer, about | {"weights": "running average"})
    result.status, result.artifact = Status.finished, str(identity.folder / "artifact")


def _warn_of_warm_up(stage: Stage[Any], identity: Identity) -> None:
    """Say so if the learning rate that the person typed a warm-up for never gets to its peak."""
    typed = identity.folder / "overrides.txt"
    if not typed.is_file() or f"{identity.stage}.warmup_steps=" not in typed.read_text():
        return
    for spec in {each.optimizer.steps: each.optimizer for each in stage.trainable().values()}.values():
        if spec.warmup_steps >= spec.steps:
            warn(
                f"{identity.stage}.warmup_steps={spec.warmup_steps}: the run has {spec.steps} optimizer steps, so the learning "
                "rate does not get to its peak"
            )


def _keep_best(stage: Stage[Any], engine: Engine, watcher: Watcher | Follower) -> str:
    """Put the weights of the best evaluation back, end the record with it, and say which they are."""
    selection = watcher.selection
    name, best = selection.objective.metric, selection.best
    if best is None:
        return f"kept the last weights, since {name} was never a finite number"
    if selection.best_round != stage.rounds:
        watcher.take_best()
        watcher.kept(stage.rounds, selection.best_evaluation or loop.measure(stage, engine, stage.rounds))
    untrained = " (before any training)" if selection.best_round == 0 else ""
    return f"kept the weights of round {selection.best_round}{untrained}, whose {name} of {best:.4g} is the best"


def _write_down(run: Run, folder: Path, corpus: Corpus) -> None:
    """``config.yaml``, the whole configuration; ``overrides.txt``, what the person typed; and what the run happens on."""
    OmegaConf.save(OmegaConf.structured(run), folder / "config.yaml")
    if (overrides := provenance.overrides()) is not None:
        (folder / "overrides.txt").write_text("".join(f"{text}\n" for text in overrides))
    for difference in provenance.write(folder, corpus):
        if (folder / CHECKPOINTS).is_dir() and not run.fresh:
            warn(f"{folder.name} goes on, but not as it began: {difference}")


@contextmanager
def _limited_memory(run: Run) -> Iterator[None]:
    """On a CPU with a stated memory, make an allocation beyond it fail here instead of waking the kernel's killer."""
    if run.hardware.memory_gib is None or torch.cuda.is_available():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(run.hardware.memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
