"""What the loop, the run and the signature ask of a stage."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.config import Run
from rlhf.data.corpus import Corpus
from rlhf.engine.base import Engine, Trainable
from rlhf.metrics import Metrics
from rlhf.stages.captured import Captured


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
    token_cache: Path | None = None
    """Where the token ids of large data sets are kept."""
    captured: Captured | None = None
    """An update to compute again, in place of data and reward; then ``parents`` holds the networks of `Replayable`."""


Network = tuple[PreTrainedModel, dict[str, Tensor]]
"""A network, and its whole weights as those of one without adapters."""


class Replayable(Protocol):
    """A stage one update of which can be kept, and computed again from a ``Setting`` that holds it."""

    def networks(self) -> dict[str, Network]:
        """What trained weights are put into, by the name under which ``Setting.parents`` gives it back. On every rank."""
        ...

    def captured(self) -> Captured:
        """The update whose batches were made last."""
        ...

    def relearn(self, update: int) -> Iterable[Batch]:
        """The batches of the captured update, which was the ``update``-th from 0."""
        ...


B = TypeVar("B", bound=Batch)


class Stage(ABC, Generic[B]):
    """One algorithm. It owns the objective; the loop owns time.

    Time is counted in rounds: for supervised stages an optimizer step, for PPO a rollout with all its optimizer steps.
    Checkpoints fall between rounds, and everything random in a round is a function of (seed, round), so a stage needs no
    generator state to resume; what else it carries from round to round is its ``state``.
    """

    reads: tuple[str, ...]
    """Fields of ``Run`` the stage is handed, and that sign it."""
    makes: str
    """Kind of the artifact: `policy` or `reward_model`."""
    rounds: int
    micro_batch_size: int
    log_every: int
    eval_every: int
    save_every: int
    rounds_per_epoch: Fraction | None = None
    """Rounds in one pass over the training data; None where there are no passes."""
    eval_every_epoch: bool = False
    """Whether there is an evaluation after each pass."""
    keeps_rows: bool = False
    """Whether the stage makes text for others to learn from."""
    notes: list[str]
    """What a person should know before the first round: rows left out, scales worked out."""

    @abstractmethod
    def __init__(self, setting: Setting) -> None:
        """Load and place the networks, and hand what is trained to ``setting.engine.prepare``."""

    @abstractmethod
    def trainable(self) -> dict[str, Trainable]:
        """The modules to train, by name."""

    @abstractmethod
    def batches(self, first_round: int) -> Iterator[Iterable[B]]:
        """For each round from ``first_round`` on its batches, one an optimizer step, made when they are asked for."""

    @abstractmethod
    def loss(self, batch: B) -> tuple[dict[str, Tensor], Metrics]:
        """The objective of each trained module, as a sum over the units that ``Batch.weight`` counts, and its metrics."""

    @abstractmethod
    def evaluate(self, round_: int) -> Evaluation:
        """Held-out measurements after ``round_`` rounds. Must not change what training does next."""

    def state(self) -> dict[str, Tensor]:
        """What the stage carries from round to round beside weights and optimizers, by name. Every rank must call it."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""

    def averaged(self) -> dict[str, Tensor] | None:
        """A second set of weights for what ``export`` names, saved beside the first. Every rank must call it."""
        return None

    def take_rows(self) -> list[dict[str, Any]]:
        """Rows for ``kept.jsonl`` in the run's folder, made since it was last asked, if ``keeps_rows``."""
        return []

    @abstractmethod
    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """What the artifact holds."""
