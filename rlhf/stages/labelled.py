"""Batches of single answers with a label each."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf.metrics import Metrics
from rlhf.models.template import kept_end
from rlhf.stages.batches import Sequences, Tokens


class Answer(NamedTuple):
    """One answer to one prompt, and what people found of it."""

    tokens: Tokens
    good: bool


@dataclass(frozen=True)
class Labelled:
    """N answers and their labels."""

    answers: Sequences
    good: Tensor  # [N] bool
    point: float
    """The reference point, in nats: of the whole batch, the same for all of its micro-batches."""
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def of(cls, rows: Sequence[Answer], point: float, pad: int, device: torch.device, metrics: Metrics) -> "Labelled":
        """Pad ``rows``."""
        good = torch.tensor([row.good for row in rows], device=device)
        return cls(Sequences.of([row.tokens for row in rows], pad, device), good, point, metrics)

    @property
    def weight(self) -> float:
        """Answers."""
        return len(self.good)

    def split(self, size: int) -> list["Labelled"]:
        """Micro-batches of at most ``size`` answers, each cut to its own longest."""
        parts = zip(self.answers.split(size), self.good.split(size), strict=True)
        return [replace(self, answers=answers, good=good) for answers, good in parts]

    def padded(self, left: int, right: int) -> "Labelled":
        """The same with so many columns of padding more on either side."""
        return replace(self, answers=self.answers.padded(left, right))


def mismatched(rows: Sequence[Tokens], limit: int, bos: int | None) -> list[Tokens]:
    """Each prompt with the answer of the next row that has another prompt; a circle, empty where all prompts are one.

    Prompts are cut in front to ``limit`` tokens with their answer; a begin token ``bos`` stays.
    """
    found = []
    for index, (prompt, _) in enumerate(rows):
        others = (answer for other, answer in (*rows[index + 1 :], *rows[:index]) if other != prompt)
        if (answer := next(others, None)) is not None:
            found.append((kept_end(prompt, limit - len(answer), bos), answer))
    return found
