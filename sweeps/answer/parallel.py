"""Parallel coordinates: one line a trial through its values, the objective on the last axis."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from rlhf.report.chart import Figure
from rlhf.report.paper import Point, Sheet, path
from sweeps.answer.axis import Axis, axes, of_values, shortened
from sweeps.answer.folder import Study, Trial
from sweeps.answer.scatter import told
from sweeps.answer.standing import Standing

SHEET = Sheet(width=1120, height=330, left=70, right=90, top=44, bottom=34)
MOST_AXES = 10
"""Keys that are drawn."""
TENTH = 0.1
STAGGERED = 6
"""Axes above which their names stand in two rows."""
WIDTH_OF_A_LETTER = 7.0
MANY = 60
"""Lines above which those of the others are fainter."""
ABSENT = 16
"""How far below an axis the lines of trials run that have no value on it."""


def figure(study: Study, standing: Standing, order: Sequence[str]) -> Figure | None:
    """The trials that measured the objectives, through the keys that vary, the first of ``order`` if there are too many."""
    shown = [each for each in standing.ranked if each.values is not None]
    if len(shown) < 2:
        return None
    keys = axes(study.about["space"], [each.entry.point for each in shown])
    if len(keys) > MOST_AXES:
        first = sorted(keys, key=lambda axis: order.index(axis.key) if axis.key in order else len(order))[:MOST_AXES]
        keys = [axis for axis in keys if axis in first]
    if not keys:
        return None
    metrics = [each.metric for each in study.goal.objectives]
    ends = [of_values(metric, [each.measured[metric] for each in shown]) for metric in metrics]
    across = SHEET.x(0.0, len(keys) + len(ends) - 1.0, margin=0.0)
    columns = [across(float(at)) for at in range(len(keys) + len(ends))]
    many = max(1, math.ceil(TENTH * sum(each.is_good for each in shown)))
    kinds = {each.number: ("best c0" if at == 0 else "tenth c1") for at, each in enumerate(shown[:many]) if each.is_good}
    others = "faint" if len(shown) > MANY else "faint few"
    parts = [_line(each, [*keys, *ends], columns, kinds.get(each.number, others), metrics) for each in reversed(shown)]
    room = int((columns[1] - columns[0]) * (2 if len(columns) > STAGGERED else 1) / WIDTH_OF_A_LETTER) - 3
    for at, (axis, x) in enumerate(zip([*keys, *ends], columns, strict=True)):
        high = at % 2 == 1 and len(columns) > STAGGERED
        name = shortened(axis.key.removeprefix(f"{study.about['stage']}."), room)
        parts += _axis(axis, x, name, SHEET.top - (28 if high else 12))
    legend = [("best", 0), (f"best tenth ({many})", 1), ("the others", 4)] if many > 1 else [("best", 0), ("the others", 4)]
    return Figure(", ".join(metrics), f"{len(shown)} trials", SHEET.svg(parts, "parallel coordinates"), legend)


def _line(trial: Trial, drawn: Sequence[Axis], columns: Sequence[float], kind: str, metrics: Sequence[str]) -> Markup:
    to_y = SHEET.y(0.0, 1.0, margin=0.0)
    values = {**trial.measured, **trial.entry.point}
    places: list[Point] = []
    for axis, x in zip(drawn, columns, strict=True):
        there = axis.key in values
        places.append((x, to_y(axis.place(values[axis.key])) if there else SHEET.height - SHEET.bottom + ABSENT))
    line = '<polyline class="thread {}" points="{}"><title>{}</title></polyline>'
    return Markup(line).format(kind, path(places), told(trial, metrics))


def _axis(axis: Axis, x: float, called: str, above: float) -> list[Markup]:
    to_y = SHEET.y(0.0, 1.0, margin=0.0)
    line = '<line class="axis" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
    name = '<text class="axisname" x="{:.1f}" y="{}">{}<title>{}</title></text>'
    parts = [
        Markup(line).format(x, SHEET.top, SHEET.height - SHEET.bottom),
        Markup(name).format(x, above, called, axis.key),
    ]
    for place, text in axis.marks:
        mark = '<text class="tick mark" x="{:.1f}" y="{:.1f}">{}</text>'
        parts.append(Markup(mark).format(x - 5, to_y(place) + 3.5, text))
    return parts
