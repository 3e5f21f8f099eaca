"""One score of several by hand."""

import pytest
import torch

from rlhf.algorithms.ensemble import disagreement, pessimistic
from rlhf.config import Pessimism, RewardConfig

SCORES_NK = torch.tensor([[1.0, 1.0, 1.0], [2.0, 5.0, 2.0], [-1.0, 0.0, 4.0]])
"""Three scorers: of one mind about the first response, least so about the last."""


def config(how: Pessimism, coef: float) -> RewardConfig:
    return RewardConfig(pessimism=how, disagreement_coef=coef)


def test_disagreement_by_hand() -> None:
    assert disagreement(SCORES_NK).tolist() == pytest.approx([0.0, 2**0.5, (14 / 3) ** 0.5])  # means 1, 3, 1
    assert disagreement(SCORES_NK[:, :1]).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("how", "coef", "expected"),
    [
        (Pessimism.deviation, 0.0, [1.0, 3.0, 1.0]),
        (Pessimism.deviation, 0.5, [1.0, 3 - 0.5 * 2**0.5, 1 - 0.5 * (14 / 3) ** 0.5]),
        (Pessimism.worst, 0.5, [1.0, 2.0, -1.0]),
    ],
)
def test_scores_by_hand(how: Pessimism, coef: float, expected: list[float]) -> None:
    assert pessimistic(SCORES_NK, config(how, coef)).tolist() == pytest.approx(expected)
    assert pessimistic(3 * SCORES_NK - 7, config(how, coef)).tolist() == pytest.approx([3 * each - 7 for each in expected])
    assert pessimistic(SCORES_NK[0], config(how, coef)).tolist() == SCORES_NK[0].tolist()  # of one scorer they are its own
