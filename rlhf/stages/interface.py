"""What the loop, the run and the signature ask of a stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypeVar

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.config import Run
from rlhf.data.corpus import Corpus
from rlhf.engine.base import Engine, Trainable
from rlhf.metrics import Metrics


class Batch(Protocol):
    """What one optimizer step learns from."""

    @property
    def weight(self) -> float:
        """Units (tokens or pairs) the loss averages over."""
        ...

    @property
    def metrics(self) -> Metrics:
        """Measured while the batch was made; empty for most."""
        ...

    def split(self, size: int) -> list[Self]:
        """The batch in micro-batches of at most ``size`` sequences or pairs."""
        ...


@dataclass
class Evaluation:
    """Held-out measurements, the rows that go into ``samples.jsonl``, and the scores behind the means."""

    metrics: Metrics
    samples: list[dict[str, str | float]] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    """One for each held-out prompt or pair, by name."""


@dataclass
class Setting:
    """What a stage is built from: its own part of the run, its data, its engine, its parents' artifacts."""

    run: Run
    """Only the fields the stage declares in ``reads`` are there; others raise AttributeError."""
    corpus: Corpus
    engine: Engine
    parents: dict[str, Path]


B = TypeVar("B", bound=Batch)


class Stage(Protocol[B]):
    """One algorithm. It owns the objective; the loop owns time.

    Time is counted in rounds: for supervised stages an optimizer step, for PPO a rollout with all its optimizer steps.
    Checkpoints fall between rounds, and everything random in a round is a function of (seed, round), so a stage needs no
    generator state to resume.
    """

    reads: tuple[str, ...]
    """Fields of ``Run`` the stage is handed, and that sign it."""
    makes: str
    """Kind of the artifact: `policy` or `reward_model`."""
    rounds: int
    steps_per_round: int
    micro_batch_size: int
    log_every: int
    eval_every: int
    save_every: int
    notes: list[str]
    """What a person should know before the first round: rows left out, scales worked out."""

    @staticmethod
    def parents(run: Run) -> dict[str, str]:
        """Stages whose artifacts this one starts from, by the kind of artifact each must be."""
        ...

    def __init__(self, setting: Setting) -> None:
        """Load and place the networks, and hand what is trained to ``setting.engine.prepare``."""
        ...

    def trainable(self) -> dict[str, Trainable]:
        """The modules to train, by name."""
        ...

    def batches(self, first_round: int) -> Iterator[B]:
        """``steps_per_round`` batches for each round from ``first_round`` on, made when they are asked for."""
        ...

    def loss(self, batch: B) -> tuple[dict[str, Tensor], Metrics]:
        """The objective of each trained module, as a sum over the units that ``Batch.weight`` counts, and its metrics."""
        ...

    def evaluate(self, round_: int) -> Evaluation:
        """Held-out measurements after ``round_`` rounds. Must not change what training does next."""
        ...

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """What the artifact holds."""
        ...
