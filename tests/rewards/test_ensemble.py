"""Several scorers side by side: where each has its zero, and how wide its scores are, does not matter."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rlhf.data.records import Example
from rlhf.fault import Fault
from rlhf.rewards.ensemble import Ensemble
from rlhf.stages.batches import Tokens


@dataclass(frozen=True)
class Counts:
    """Scores a response by its length: ``slope`` each character, on top of ``zero``."""

    slope: float
    zero: float = 0.0

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        return torch.tensor([self.zero + self.slope * len(text) for text in texts])


def ensemble(*members: Counts) -> Ensemble:
    """On the scale of four responses of 1 to 4 characters, whose mean length is 2.5."""
    return Ensemble(members).scaled([], ["a", "aa", "aaa", "aaaa"], [], "ppo")


def test_zero_and_width_of_a_scorer_do_not_matter() -> None:
    both = ensemble(Counts(2.0, zero=3.0), Counts(10.0, zero=500.0)).score([], ["", "aaaaa"], [])
    assert both[0].tolist() == pytest.approx([3.0, 3.0], rel=1e-5)  # in the first one's units
    assert both[1].tolist() == pytest.approx([13.0, 13.0], rel=1e-5)


def test_opposite_scorers_mirror_each_other_at_the_mean() -> None:
    both = ensemble(Counts(1.0), Counts(-2.0, zero=9.0)).score([], ["", "aaaaa"], [])
    assert both.flatten().tolist() == pytest.approx([0.0, 5.0, 5.0, 0.0], abs=1e-5)


def test_a_member_that_tells_nothing_apart_is_refused() -> None:
    with pytest.raises(Fault, match="scores 4 different responses alike"):
        ensemble(Counts(1.0), Counts(0.0))
