"""Batches recorded once, and what a stage learns from them: by the loop's own code, one optimizer step a batch."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from rlhf import chain, loop
from rlhf.config import Run
from rlhf.engine.base import Engine
from rlhf.metrics import Metrics
from rlhf.stages.interface import Batch, Setting, Stage
from rlhf.stages.table import TABLE

Row = dict[str, float]
"""Loss, gradient norms and learning rates of an update, by their names as metrics."""

WHOLE = 2**31
"""Rows of a micro-batch that no batch fills."""


@runtime_checkable
class Paddable(Protocol):
    """A batch that can be given more padding than it needs."""

    def padded(self, left: int, right: int) -> Self:
        """The same with so many columns of padding more on either side."""
        ...


@dataclass(frozen=True)
class Wide:
    """A batch whose every micro-batch has columns of padding that it does not need."""

    batch: Batch
    left: int
    right: int

    @property
    def weight(self) -> float:
        """That of the batch."""
        return self.batch.weight

    @property
    def metrics(self) -> Metrics:
        """Those of the batch."""
        return self.batch.metrics

    def split(self, size: int) -> list[Any]:
        """Its micro-batches, each wider."""
        parts = self.batch.split(size)
        return [part.padded(self.left, self.right) for part in parts if isinstance(part, Paddable)]


def build(run: Run, engine: Engine, parents: dict[str, Path]) -> Stage[Any]:
    """The stage of ``run``, ready for its loss."""
    return TABLE[run.stage](Setting(run, chain.load_corpus(run), engine, parents))


def record(stage: Stage[Any], updates: int) -> list[Batch]:
    """The first batches that ``stage`` would learn from."""
    return list(itertools.islice(itertools.chain.from_iterable(stage.batches(0)), updates))


def learn(
    stage: Stage[Any], engine: Engine, batches: Sequence[Batch | Wide], micro_batch_size: int, first: int = 0
) -> list[Row]:
    """One optimizer step on each of ``batches``, ``micro_batch_size`` rows at once, after ``first`` others.

    Raises:
        NonFinite: a loss or a gradient norm is not a finite number.
    """
    stage.micro_batch_size, rows = micro_batch_size, []
    for index, batch in enumerate(batches, first):
        told = loop.learn(stage, engine, [batch], index).values_by_name()
        rows.append({name: told[name] for name in told if name == "loss" or name.startswith(("grad_norm/", "learning_rate/"))})
    return rows


def weights(engine: Engine) -> dict[str, Tensor]:
    """What is trained, by name. Every rank must call it."""
    return {name: tensor.clone() for name, tensor in engine.tensors().items() if "/weights/" in name}
