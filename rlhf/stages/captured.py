"""One update as it was: what was sampled and scored, from which `replay` computes all else again."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rlhf.data.records import Example
from rlhf.rollout.sample import Response
from rlhf.stages.batches import Tokens


@dataclass(frozen=True)
class Captured:
    """What an update takes from outside of its networks. B responses; it is the reward of a stage that computes it again."""

    rows: list[Tokens]
    raw: Tensor  # [B] what the reward said, or each of several reward models [B, K]
    start_scores: Tensor | None  # [N] or [N, K]
    """The same of responses of the policy it started from, which give the scale; None where scores are not normalised."""
    sampled: list[Response]
    """What the sampler says of the responses; empty where that is not known."""
    rollout: dict[str, Tensor]
    """What was made of them, for whoever looks: log-probabilities, values, advantages ... by their names in the batch."""
    texts: list[Tokens]
    """Of the language-modelling loss, in the order they are learnt; empty without it."""
    critic_speaks_scores: bool = False
    """Whether the critic's head speaks raw scores."""

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        """The raw scores, of whatever is asked."""
        return self.raw
