"""What PPO asks of a reward, wherever it comes from."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from rlhf.data.records import Example
from rlhf.stages.batches import Tokens


class Reward(Protocol):
    """Scores responses; the higher the better, on a scale of its own."""

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        """Raw scores [N], one a response, or [N, K] of several that score together.

        Args:
            examples: the prompts.
            texts: the responses as text.
            rows: prompts and responses in the policy's tokens.
        """
        ...
