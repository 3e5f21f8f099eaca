"""Learning curves of the trials over trained tokens: the best ones coloured, the others faint."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from rlhf.report.chart import Figure
from rlhf.report.paper import Point, Sheet, path
from sweeps.answer.axis import levels, of_values
from sweeps.answer.folder import Study, Trial
from sweeps.answer.parallel import MANY
from sweeps.answer.standing import Standing
from sweeps.curves import Curve

SHEET = Sheet(width=1120, height=320, left=60, right=20, top=12, bottom=42)
COLOURS = (0, 1, 2, 3, 6)
"""Of the lines of the best trials; the others are grey."""
GREY = 4
MOST_POINTS = 40
"""Evaluations of a line that are drawn, at most."""


def figure(study: Study, standing: Standing) -> Figure | None:
    """The first objective at the evaluations of every run."""
    metric = study.goal.objectives[0].metric
    lines = [(each, points) for each in standing.ranked for points in _lines(each, metric)]
    if not any(len(points) > 1 for _, points in lines):
        return None
    best = [each.number for each in standing.ranked if each.is_good][: len(COLOURS)]
    y = of_values(metric, [value for _, points in lines for _, value in points])
    to_y = SHEET.y(0.0, 1.0, margin=0.0)
    to_x = SHEET.x(0.0, max(x for _, points in lines for x, _ in points), margin=0.0)
    parts = [*levels(SHEET, y)]
    for value in to_x.ticks(8, whole=True):
        mark = '<text class="tick x" x="{:.1f}" y="{}">{}</text>'
        parts.append(Markup(mark).format(to_x(value), SHEET.height - SHEET.bottom + 17, _thousands(value)))
    middle = (SHEET.left + SHEET.width - SHEET.right) / 2
    parts.append(Markup('<text class="tick x" x="{}" y="{}">trained tokens</text>').format(middle, SHEET.height - 5))
    for trial, points in reversed(lines):  # the best on top
        others = "thread faint" if len(lines) > MANY else "thread faint few"
        kind = f"curve c{COLOURS[best.index(trial.number)]}" if trial.number in best else others
        places = [(to_x(x), to_y(y.place(value))) for x, value in points]
        line = '<polyline class="{}" points="{}"><title>{}</title></polyline>'
        parts.append(Markup(line).format(kind, path(places), f"{trial.number:04d} {trial.label}"))
    legend = [(f"{number:04d}", colour) for number, colour in zip(best, COLOURS, strict=False)]
    legend += [("the others", GREY)] if any(trial.number not in best for trial, _ in lines) else []
    return Figure(metric, f"{len(lines)} runs", SHEET.svg(parts, f"{metric} over tokens"), legend)


def _lines(trial: Trial, metric: str) -> list[list[Point]]:
    """Of each run of a trial, the evaluations that measured ``metric``."""
    return [_points(track.curve, metric) for track in trial.tracks if _points(track.curve, metric)]


def _points(curve: Curve, metric: str) -> list[Point]:
    found = [(each.tokens, each.values[metric]) for each in curve if math.isfinite(each.values.get(metric, math.nan))]
    return _thinned(found)


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Every so many of them, and the last."""
    every = math.ceil(len(points) / MOST_POINTS) or 1
    return [*points[:-1:every], *points[-1:]]


def _thousands(tokens: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return f"{tokens / size:g}{unit}"
    return f"{tokens:g}"
