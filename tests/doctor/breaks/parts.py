"""What a micro-batch's loss adds to that of its batch, wrongly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from rlhf.metrics import Metrics
from rlhf.stages.interface import Stage

Part = Callable[[Tensor, float, float], Tensor]
"""What is learnt of a summed loss, its units, and those of the whole batch."""


@dataclass(frozen=True)
class Misdivided:
    """The summed loss of a micro-batch of ``weight`` units."""

    loss: Tensor
    weight: float
    part: Part

    def item(self) -> float:
        return self.loss.item()

    def __truediv__(self, of: float) -> Tensor:
        return self.part(self.loss, self.weight, of)


def misdivided(patch: pytest.MonkeyPatch, stage: type[Stage[Any]], part: Part) -> None:
    """Let ``stage`` learn ``part`` of each loss."""
    summed = stage.loss

    def broken(self: Stage[Any], batch: Any) -> tuple[dict[str, Any], Metrics]:
        losses, metrics = summed(self, batch)
        return {name: Misdivided(loss, batch.weight, part) for name, loss in losses.items()}, metrics

    patch.setattr(stage, "loss", broken)
