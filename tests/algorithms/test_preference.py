"""Preference losses against numbers worked out by hand, and their gradients at the points where they are known."""

import math

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.preference import dpo_loss, ipo_loss, log_odds, odds_ratio_loss, simpo_loss

ONE = torch.ones(1)


def of(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64, requires_grad=True)


def test_dpo_by_hand() -> None:
    # sigmoid(0.5 * 2) = 0.7310586
    assert dpo_loss(of(2.0), ONE, beta=0.5).item() == pytest.approx(-math.log(0.7310585786300049))
    assert dpo_loss(of(0.0), ONE, beta=0.1).item() == pytest.approx(math.log(2))


def test_dpo_pulls_by_how_wrong_it_is() -> None:
    """Rafailov et al. 2023, section 4: the gradient's weight is beta * sigmoid(-beta h)."""
    margin = of(2.0)
    dpo_loss(margin, ONE, beta=0.5).backward()
    assert margin.grad.item() == pytest.approx(-0.5 * (1 - 0.7310585786300049))


def test_label_smoothing_by_hand() -> None:
    right, wrong = -math.log(0.7310585786300049), -math.log(1 - 0.7310585786300049)
    assert dpo_loss(of(2.0), ONE, 0.5, 0.1).item() == pytest.approx(0.9 * right + 0.1 * wrong)


def test_smoothed_dpo_is_lowest_where_the_odds_are_those_of_the_noise() -> None:
    margin = of(math.log(0.9 / 0.1) / 0.5)
    dpo_loss(margin, ONE, 0.5, 0.1).backward()
    assert margin.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_ipo_by_hand_and_where_it_is_lowest() -> None:
    assert ipo_loss(of(3.0), ONE, beta=0.1).item() == pytest.approx(4.0)  # (3 - 5)^2
    assert ipo_loss(of(5.0), ONE, beta=0.1).item() == 0.0


def test_simpo_by_hand() -> None:
    # 2 * (-0.5 - -1.0) - 0.6 = 0.4
    assert simpo_loss(of(-0.5), of(-1.0), ONE, beta=2.0, margin=0.6).item() == pytest.approx(math.log1p(math.exp(-0.4)))


def test_odds_ratio_by_hand() -> None:
    # p = 0.8 and 0.5: odds 4 and 1, so sigmoid(log 4) = 4 / 5
    better, worse = of(math.log(0.8)), of(math.log(0.5))
    assert odds_ratio_loss(better, worse, ONE).item() == pytest.approx(-math.log(0.8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_odds_of_nearly_certain_answers_are_finite(dtype: torch.dtype) -> None:
    logprobs = torch.tensor([-1e-30, 0.0, -1e-3, -50.0], dtype=dtype, requires_grad=True)
    odds = log_odds(logprobs)
    odds.sum().backward()
    assert odds.isfinite().all() and logprobs.grad.isfinite().all()
    assert odds[2].item() == pytest.approx(math.log(math.exp(-1e-3) / -math.expm1(-1e-3)), rel=1e-5)
    assert odds[3].item() == pytest.approx(-50.0, rel=1e-6)


def test_pairs_count_with_their_share() -> None:
    margins, share = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.5, 0.25, 0.25])
    single = [dpo_loss(margin[None], ONE, 0.3).item() for margin in margins]
    whole = sum(loss * weight for loss, weight in zip(single, share.tolist(), strict=True))
    assert dpo_loss(margins, share, 0.3).item() == pytest.approx(whole)
