"""A running average of a network's weights, often a better policy than the last ones (Polyak and Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rlhf.engine.base import Engine, trained


class Average:
    """average <- decay * average + (1 - decay) * weights, of what is trained, in fp32 on the CPU; begins as the weights."""

    def __init__(self, engine: Engine, network: nn.Module, decay: float) -> None:
        self._engine, self._network, self._decay = engine, network, decay
        self.weights: dict[str, Tensor] = {}
        """The average by parameter name; empty before the first ``update``."""

    def update(self) -> None:
        """Take the network's present weights into the average. Every rank must call it."""
        now = self._trained()
        if not self.weights:
            self.weights = now
            return
        for name, value in now.items():
            self.weights[name].lerp_(value, 1 - self._decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside, the network computes with the average; its optimizer must not step meanwhile."""
        own = self._trained()
        self._engine.put(self._network, self.weights)
        try:
            yield
        finally:
            self._engine.put(self._network, own)

    def whole(self) -> dict[str, Tensor]:
        """State of the network with the average in place of what is trained. Every rank must call it."""
        state = self._engine.weights(self._network)
        averages = {state[name].data_ptr(): value for name, value in self.weights.items()}  # tied weights share a place
        return {name: averages.get(value.data_ptr(), value) for name, value in state.items()}

    def _trained(self) -> dict[str, Tensor]:
        state = self._engine.weights(self._network)
        with torch.no_grad():
            return {name: state[name].detach().to("cpu", torch.float32, copy=True) for name, _ in trained(self._network)}
