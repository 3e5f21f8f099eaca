"""The recorded updates computed once more, in another way."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf import checkpoint
from rlhf.config import Run
from rlhf.engine.base import Engine, NonFinite
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.invariants import rollouts
from rlhf.invariants.compare import Distance, distances
from rlhf.invariants.truth import Truth
from rlhf.invariants.updates import Row, Wide, build, learn
from rlhf.invariants.ways import Way
from rlhf.models.forward import logits_in_memory
from rlhf.stages.interface import Batch, Stage
from rlhf.watcher import carried, put_back


@dataclass
class Outcome:
    """What came of a way."""

    rows: list[Row] = field(default_factory=list)
    apart: dict[str, Distance] = field(default_factory=dict)
    """Distance of each trained tensor after the last of these updates."""
    parting: str = ""
    """Where its greedy answers part from plain torch's; empty if they do not."""
    why_not: str = ""
    """Why it could not be tried."""
    broke: str = ""
    """What ended it before its time."""


def alone(run: Run) -> Engine:
    """The engine of a way in this process."""
    return TorchEngine(run.device, run.precision, run.deterministic)


def repeat(way: Way, truth: Truth, updates: int, engine_of: Callable[[Run], Engine] = alone) -> Outcome:
    """The first ``updates`` recorded updates in this ``way``; every rank must call it."""
    try:
        return _outcome(way, truth, updates, engine_of)
    except Fault as fault:
        return Outcome(why_not=str(fault))
    except NonFinite as error:
        return Outcome(broke=str(error))
    finally:
        gc.collect()  # networks hang together in circles, and the next way brings its own


def _outcome(way: Way, truth: Truth, updates: int, engine_of: Callable[[Run], Engine]) -> Outcome:
    run = truth.run(way.overrides)
    with _chunks(way, truth):
        stage, engine, rows = _learnt(way, truth, run, updates, engine_of)
    expected = truth.tensors(updates) if engine.rank == 0 else {}
    found = Outcome(rows, distances(expected, engine.tensors()))
    if updates == truth.updates and truth.prompts:
        answer = rollouts.recomputed if way.recomputes else rollouts.greedy
        found.parting = rollouts.parting(truth.answers, answer(stage, engine, truth.prompts, run.rollout))
    engine.release()
    return found


def _learnt(
    way: Way, truth: Truth, run: Run, updates: int, engine_of: Callable[[Run], Engine]
) -> tuple[Stage[Any], Engine, list[Row]]:
    """The stage and its engine after ``updates`` updates, with a checkpoint between them if the way has one."""
    batches: Sequence[Batch | Wide] = truth.batches[:updates]
    if way.padding != (0, 0):
        batches = [Wide(batch, *way.padding) for batch in truth.batches[:updates]]
    engine = engine_of(run)
    stage = build(run, engine, truth.parents)
    until = way.resumed_after
    if until is None or until >= updates:
        return stage, engine, learn(stage, engine, batches, way.micro_batch_size)
    rows = learn(stage, engine, batches[:until], way.micro_batch_size)
    folder = truth.folder / f"checkpoint-{way.ranks}"
    _save(folder, stage, engine, until)
    engine.release()
    del stage, engine
    gc.collect()
    engine = engine_of(run)
    stage = build(run, engine, truth.parents)
    found = checkpoint.load_latest(folder)
    assert found is not None, "it has just been written"
    put_back(*found, stage, engine)
    return stage, engine, rows + learn(stage, engine, batches[until:], way.micro_batch_size, first=until)


def _save(folder: Path, stage: Stage[Any], engine: Engine, done: int) -> None:
    tensors = carried(stage, engine)
    if engine.rank == 0:
        checkpoint.save(folder, checkpoint.TrainState(done, engine.steps, 0.0, 0.0, 0, 0), tensors)
    engine.agree(False)  # it is written before any other rank reads it


@contextmanager
def _chunks(way: Way, truth: Truth) -> Iterator[None]:
    if way.chunk is None:
        yield
    else:
        with logits_in_memory(way.chunk * truth.vocabulary):
            yield
