"""Raw scores on a scale that does not depend on the reward: deviations from what the SFT policy gets."""

from dataclasses import dataclass

from torch import Tensor

from rlhf.fault import Fault

SMALLEST_DEVIATION = 1e-5
"""Of raw scores; below it they are rounding noise, which normalisation would blow up into a reward."""


@dataclass(frozen=True)
class Scale:
    """Shifts and scales scores; ``mean`` 0 and ``deviation`` 1 leave them as they are."""

    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, raw: Tensor, stage: str) -> "Scale":
        """The scale on which ``raw`` [N], scores that ``stage`` is to learn from, has mean 0 and deviation 1.

        Raises:
            Fault: all scores are the same.
        """
        mean, deviation = raw.mean().item(), raw.std().item()
        if deviation < SMALLEST_DEVIATION:
            raise Fault(
                f"{stage}.reward_normalization=reference: the reward scores {len(raw)} different responses alike (deviation "
                f"{deviation:.1e}), so it cannot be learned from; train the reward model longer or choose another reward, "
                f"or use {stage}.reward_normalization=none"
            )
        return cls(mean, deviation)

    def __call__(self, raw: Tensor) -> Tensor:
        """``raw`` on this scale."""
        return (raw - self.mean) / self.deviation
