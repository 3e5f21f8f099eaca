"""Bugs of KTO: each function puts one back until its monkeypatch is undone."""

from typing import Any

import pytest
from torch import Tensor

from rlhf.algorithms import prospect
from rlhf.data import labels
from rlhf.stages import kto

Patch = pytest.MonkeyPatch


def ranking_reversed(patch: Patch) -> None:
    made = labels._labelled
    patch.setattr(labels, "_labelled", lambda example, answer, good: made(example, answer, not good))


def weights_ignored(patch: Patch) -> None:
    def broken(log_ratio: Tensor, good: Tensor, point: float, beta: float, *weights: float) -> Tensor:
        return prospect.kto_loss(log_ratio, good, point, beta, 1.0, 1.0)

    patch.setattr(kto, "kto_loss", broken)


def own_answers(patch: Patch) -> None:
    def broken(rows: Any, limit: int, bos: int | None) -> list[Any]:
        return list(rows)

    patch.setattr(kto, "mismatched", broken)
