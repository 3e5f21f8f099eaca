"""Several reward models that score together, put on one scale.

Preferences say nothing about where a scorer has its zero, so scorers that agree on every pair may be far apart. Before
they are compared, each one's scores get the mean and deviation that the first one's have on the SFT policy's responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rlhf.data.records import Example
from rlhf.rewards.interface import Reward
from rlhf.rewards.scale import Scale
from rlhf.stages.batches import Tokens


@dataclass(frozen=True)
class Ensemble:
    """Rewards whose scores stand side by side; ``algorithms.ensemble`` makes one of them."""

    members: Sequence[Reward]
    scales: Sequence[Scale] = ()
    """Of each member's raw scores; empty until ``scaled``."""

    def scaled(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens], stage: str) -> "Ensemble":
        """The same, all members on the scale that the first one has on these responses.

        Raises:
            Fault: a member scores all of them alike; ``stage`` is what was to learn from it.
        """
        return replace(self, scales=[Scale.of(each.score(examples, texts, rows), stage) for each in self.members])

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        """Scores [N, K], one a response and member, in units of the first member's."""
        assert self.scales, "members are on scales of their own"
        both = zip(self.members, self.scales, strict=True)
        scores_NK = torch.stack([scale(each.score(examples, texts, rows)) for each, scale in both], 1)
        return scores_NK * self.scales[0].deviation + self.scales[0].mean
