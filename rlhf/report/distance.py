"""What a policy gained over how far it went for it, beside what choosing among answers of its start gains as far away."""

import math
from collections.abc import Iterator, Sequence

from rlhf.report import chart, paper
from rlhf.report.curves import HELD_OUT, PUBLISHED, legend, number
from rlhf.report.folder import Row

KL = "eval/kl"
GAINS = {"reward/gain": "best_of/gain", "reward/gold_gain": "best_of/gold_gain"}
"""The gain of a policy, and that of choosing."""
BOUND = "best_of/kl_bound"


def figures(rows: Sequence[Row]) -> Iterator[chart.Figure]:
    """A chart for each gain that was measured at two evaluations; its x are nats an answer."""
    for gain, choosing in GAINS.items():
        points = [(number(row[KL]), number(row[gain])) for row in rows if row["kind"] == "eval" and KL in row and gain in row]
        points = [point for point in points if all(map(math.isfinite, point))]
        if len(points) < 2:
            continue
        series = [chart.Series("policy", points, HELD_OUT, dots=True)]
        if chosen := _chosen(rows, choosing):
            series.append(chart.Series("best of n", chosen, PUBLISHED, dots=True))
        last = f"{paper.short(points[-1][1])} at {paper.short(points[-1][0])} nats"
        yield chart.Figure(gain, last, chart.lines(series, whole_x=False), legend(series))


def _chosen(rows: Sequence[Row], name: str) -> list[paper.Point]:
    """Of the best of 1, 2, 4, ...: how far away they are at most, and their gain."""
    told = next((row for row in reversed(rows) if name in row), None)
    if told is None:
        return []
    sizes = [key.removeprefix(name) for key in told if key == name or key.startswith(f"{name}/")]
    return sorted([(0.0, 0.0), *((number(told[BOUND + size]), number(told[name + size])) for size in sizes)])
