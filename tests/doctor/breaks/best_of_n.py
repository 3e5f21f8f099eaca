"""Bugs of best of n: each function puts one back until its monkeypatch is undone."""

import pytest
import torch
from torch import Tensor

from rlhf.stages import best_of_n

Patch = pytest.MonkeyPatch


def best_of_all(patch: Patch) -> None:
    def broken(scores: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        count, size = scores.shape
        top = scores.masked_fill(~allowed, -torch.inf).flatten().topk(count).indices
        return top - size * torch.arange(count), allowed.flatten()[top]

    patch.setattr(best_of_n, "best", broken)
