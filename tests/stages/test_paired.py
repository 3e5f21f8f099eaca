"""The mean of paired differences and its interval, by hand."""

import math

import pytest

from rlhf.stages.paired import paired_gain


def gain(*differences: float) -> dict[str, float]:
    return {name: metric.value for name, metric in paired_gain("gain", differences).items()}


def test_the_interval_by_hand() -> None:
    # 1, 2, 3, 6: mean 3, sum of squares 14, variance 14 / 3, standard error sqrt(14 / 12), times 1.959964
    half = 1.959964 * math.sqrt(14 / 12)
    assert gain(1.0, 2.0, 3.0, 6.0) == pytest.approx({"gain": 3.0, "gain_low": 3 - half, "gain_high": 3 + half})


def test_a_single_difference_has_no_interval() -> None:
    assert gain(2.0) == {"gain": 2.0}


def test_equal_differences_leave_no_doubt() -> None:
    assert gain(*[0.5] * 10) == {"gain": 0.5, "gain_low": 0.5, "gain_high": 0.5}
