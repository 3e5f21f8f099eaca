"""The mean of paired differences and its interval, by hand."""

import math

import pytest

from rlhf.stages.paired import paired_gain


def test_the_interval_by_hand() -> None:
    # 1, 2, 3, 6: mean 3, sum of squares 14, variance 14 / 3, standard error sqrt(14 / 12), times 1.959964
    gain = paired_gain([1.0, 2.0, 3.0, 6.0])
    half = 1.959964 * math.sqrt(14 / 12)
    assert gain.mean.value == 3.0
    assert (gain.low.value, gain.high.value) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_a_single_difference_says_nothing() -> None:
    gain = paired_gain([2.0])
    assert (gain.mean.value, gain.low.value, gain.high.value) == (2.0, -math.inf, math.inf)


def test_equal_differences_leave_no_doubt() -> None:
    gain = paired_gain([0.5] * 10)
    assert gain.low.value == gain.mean.value == gain.high.value == 0.5
