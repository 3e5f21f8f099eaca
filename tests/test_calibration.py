"""Calibration by hand, and against scorers whose error is known because their margins are made to be right or wrong."""

import math
import random

import pytest

from rlhf.calibration import expected_error, reliability, uncentred_correlation


def judged(count: int, scale: float) -> list[float]:
    """Margins of a scorer that says ``scale`` times the true margin, of pairs that people judge as Bradley and Terry say."""
    chance = random.Random(1)
    margins = []
    for _ in range(count):
        true = chance.uniform(0, 4)
        kept = chance.random() < 1 / (1 + math.exp(-true))  # else the answer with the lower true reward is the better one
        margins.append(scale * (true if kept else -true))
    return margins


def test_bins_by_hand() -> None:
    even = math.log(0.75 / 0.25)  # predicts 3/4
    (found,) = reliability([even, even, even, -even], bins=2)
    assert (found.predicted, found.observed, found.pairs) == (pytest.approx(0.75), 0.75, 4)
    assert expected_error([even, even, even, -even], bins=2) == pytest.approx(0.0)
    assert expected_error([even] * 4, bins=2) == pytest.approx(0.25)


def test_a_tie_is_half_right() -> None:
    (found,) = reliability([0.0, 0.0])
    assert (found.predicted, found.observed) == (0.5, 0.5)


def test_margins_without_end_are_certain() -> None:
    (found,) = reliability([1e6, -1e6])
    assert (found.predicted, found.observed) == (pytest.approx(1.0), 0.5)


def test_the_true_margins_are_calibrated_and_others_are_off_in_their_direction() -> None:
    assert expected_error(judged(20_000, 1.0)) < 0.015
    wide, narrow = reliability(judged(20_000, 3.0)), reliability(judged(20_000, 0.3))
    assert all(each.observed < each.predicted for each in wide if each.predicted > 0.8)
    assert all(each.observed > each.predicted for each in narrow if each.predicted > 0.6)
    assert expected_error(judged(20_000, 3.0)) > 0.08 < expected_error(judged(20_000, 0.3))


def test_correlation_does_not_ask_which_answer_stands_first() -> None:
    margins, lengths = [1.0, 2.0, -1.0], [10.0, -5.0, 3.0]
    turned = uncentred_correlation([1.0, -2.0, -1.0], [10.0, 5.0, 3.0])
    assert uncentred_correlation(margins, lengths) == turned == pytest.approx((10 - 10 - 3) / math.sqrt(6 * 134))
    assert uncentred_correlation([2.0, 4.0], [1.0, 2.0]) == pytest.approx(1.0)
    assert uncentred_correlation([0.0], [1.0]) is None
