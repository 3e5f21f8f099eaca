"""Intervals worked by hand."""

import math

import pytest

from rlhf.compare import intervals


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (10, 2.22814), (255, 1.96931), (10_000, 1.96020)]
)
def test_quantiles_are_those_of_the_tables(degrees: float, quantile: float) -> None:
    assert intervals.student_t(degrees) == pytest.approx(quantile, abs=2e-5)


def test_a_paired_interval() -> None:
    found = intervals.paired([1.0, 2.0, 3.0, 4.0], "prompts")
    half = 3.18245 * math.sqrt((2.25 + 0.25 + 0.25 + 2.25) / 3 / 4)  # mean 2.5, variance 5/3
    assert (found.value, found.low, found.high) == pytest.approx((2.5, 2.5 - half, 2.5 + half), abs=1e-4)
    assert found.decided and found.method == "paired over 4 prompts"


def test_a_mean_over_tokens_is_weighed() -> None:
    found = intervals.paired(intervals.weighed([1.0, 4.0], [30.0, 10.0]), "prompts")  # (30 + 40) / 40
    assert found.value == 1.75
    assert intervals.weighed([1.0, 4.0], [30.0, 10.0]) == pytest.approx([1.75 - 1.5 * 0.75, 1.75 + 0.5 * 2.25])
    assert intervals.weighed([1.0, 4.0], [2.0, 2.0]) == [1.0, 4.0]


def test_runs_of_the_same_seeds_are_paired() -> None:
    found = intervals.paired_seeds([1.0, 1.0, 4.0])  # mean 2, variance 3, so the standard error is 1
    assert (found.low, found.high) == pytest.approx((2 - 4.30265, 2 + 4.30265), abs=1e-4)
    assert not found.decided


def test_runs_of_other_seeds_are_apart() -> None:
    found = intervals.apart([3.0, 5.0], [1.0, 1.0, 4.0])  # variances 2 and 3: 2/2 + 3/3 = 2
    degrees = 2**2 / (1 / 1 + 1 / 2)
    assert degrees == pytest.approx(2.6667, abs=1e-4)
    half = intervals.student_t(degrees) * math.sqrt(2)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 2 - half, 2 + half))
    assert 3.18 < intervals.student_t(degrees) < 4.31


def test_five_seeds_are_resampled_the_same_way_each_time() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    found = intervals.paired_seeds(values)
    assert found == intervals.paired_seeds(values) and found.method.endswith("bootstrap")
    assert (found.low, found.high) == pytest.approx((1.8, 4.2), abs=0.2)  # 3 ± 1.96 √(2/5)
    assert intervals.apart(values, [value + 3 for value in values]).high < 0


def test_no_spread_is_no_width() -> None:
    found = intervals.apart([2.0, 2.0], [1.0, 1.0])
    assert (found.low, found.high) == (1.0, 1.0)


def test_one_run_has_no_interval() -> None:
    assert intervals.of_mean([1.0]) is None
