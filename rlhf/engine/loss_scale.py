"""The dynamic loss scale of fp16 (Micikevicius et al. 2018), one for all networks of a run.

Gradients below 6e-8 are 0 in fp16, so losses are multiplied by a scale as large as their gradients bear, and gradients are
divided by it again. One that overflows halves the scale and skips the step, of all networks alike, so that policy and
critic never part; after `WINDOW` steps without one the scale doubles.
"""

import torch
from torch import Tensor

from rlhf.engine.base import NonFinite

START, WINDOW, LEAST = 2.0**16, 1000, 1.0
"""DeepSpeed's defaults."""


class LossScale:
    """What losses are multiplied by."""

    def __init__(self) -> None:
        self.value = START
        self._steps = 0  # since the last change

    def update(self, overflowed: bool) -> None:
        """Count a step.

        Raises:
            NonFinite: gradients overflow at the smallest scale.
        """
        if overflowed and self.value <= LEAST:
            raise NonFinite(
                f"gradients overflow fp16 at {LEAST:g}, the smallest loss scale; use precision=bf16, or lower the learning rate"
            )
        self._steps += 1
        if overflowed or self._steps >= WINDOW:
            self.value, self._steps = max(LEAST, self.value / 2) if overflowed else self.value * 2, 0

    def tensor(self) -> Tensor:
        """Its state, for a checkpoint."""
        return torch.tensor([self.value, self._steps], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Put back what ``tensor`` returned."""
        self.value, self._steps = state[0].item(), int(state[1])
