"""Charts: places worked out by hand, round ticks, and numbers that cannot be drawn."""

import math
import re

import pytest

from rlhf.report import chart, paper
from rlhf.report.chart import MOST_POINTS, Series
from rlhf.report.paper import CARD


def places(drawing: str, kind: str = "polyline") -> list[tuple[float, float]]:
    (points,) = re.findall(rf'<{kind}[^>]*points="([^"]*)"', drawing)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in points.split())]


def ticks(drawing: str, axis: str) -> list[str]:
    return re.findall(rf'<text class="tick {axis}"[^>]*>([^<]*)<', drawing)


def test_a_line_runs_from_edge_to_edge() -> None:
    (x0, y0), (x1, y1) = places(chart.lines([Series("a", [(0, -1.0), (10, 1.0)], 0)]))
    assert (x0, x1) == (CARD.left, CARD.width - CARD.right)
    inner = CARD.height - CARD.bottom - CARD.top  # the values fill it but for a margin of 6 % of their range on both sides
    assert y0 == pytest.approx(CARD.height - CARD.bottom - 0.06 / 1.12 * inner, abs=0.06)
    assert y1 == pytest.approx(CARD.top + 0.06 / 1.12 * inner, abs=0.06)


def test_ticks_are_round_and_steps_are_whole() -> None:
    drawing = chart.lines([Series("a", [(0, 0.0), (3, 1.0)], 0)])
    assert ticks(drawing, "x") == ["0", "1", "2", "3"]
    assert ticks(drawing, "y") == ["0", "0.5", "1"]


def test_a_wide_range_of_positive_numbers_is_logarithmic() -> None:
    drawing = chart.lines([Series("a", [(0, 1000.0), (1, 31.6228), (2, 1.0)], 0)])
    assert ticks(drawing, "y") == ["1", "10", "100", "1000"]
    first, middle, last = (y for _, y in places(drawing))
    assert middle == pytest.approx((first + last) / 2, abs=0.1)


def test_what_is_not_finite_is_left_out() -> None:
    assert len(places(chart.lines([Series("a", [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)], 0)]))) == 2
    assert chart.lines([Series("a", [(0, math.nan)], 0)]) == ""


def test_a_level_line_and_a_single_point_can_be_drawn() -> None:
    assert len(places(chart.lines([Series("a", [(0, 0.0), (1, 0.0)], 0)]))) == 2
    assert len(places(chart.lines([Series("a", [(5, 7.0)], 0)]))) == 1


def test_many_rows_are_drawn_through_the_means_of_neighbours() -> None:
    points = [(x, float(x % 2)) for x in range(4 * MOST_POINTS)]
    drawing = chart.lines([Series("a", points, 0)], [("floor", 0.0), ("top", 1.0)])
    drawn = places(drawing)
    assert len(drawn) == MOST_POINTS and len({y for _, y in drawn}) == 1  # the mean of four of them is always 1/2


def test_bars_of_a_histogram_hold_every_value() -> None:
    drawing = chart.histogram([("a", [0.0, 0.0, 1.0], 0)], bins=2)
    outline = places(drawing, "polygon")
    heights = sorted({y for _, y in outline})
    assert len(heights) == 3 and heights[0] == CARD.top  # nothing, one value, two values
    assert heights[1] == pytest.approx((heights[0] + heights[2]) / 2, abs=0.1)
    assert chart.histogram([("a", [], 0)]) == ""


def test_an_interval_shows_where_zero_is() -> None:
    drawing = chart.interval(1.0, 2.0, 3.0)
    (zero,) = re.findall(r'class="zero" x1="([\d.]+)"', drawing)
    (left,) = re.findall(r'class="whisker c1" x1="([\d.]+)"', drawing)
    assert float(zero) == 6 and float(left) > float(zero)


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (0.123456, "0.1235"), (math.nan, "nan"), (7e-05, "7e-05")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert paper.short(value) == text
