"""Points of trials: a front over two axes, and an objective against each key. Each says its numbers when pointed at."""

from collections.abc import Sequence

from markupsafe import Markup

from rlhf.constraint import dominates
from rlhf.report.chart import Figure
from rlhf.report.paper import CARD, Sheet, path, short
from rlhf.result import Objective
from sweeps.answer.axis import Axis, axes, levels, names, of_values
from sweeps.answer.folder import Study, Trial
from sweeps.answer.standing import Standing, turned

MOST_KEYS = 12
"""Keys that are drawn."""
SHEET = Sheet(width=340, height=220, bottom=40)
"""With room for the name of the axis below."""
MANY = 60
"""Points from which they are spread over all of that room."""
GOLDEN = 0.618
"""Spreads points of the same value over the room of its name, always the same way."""


def fronts(study: Study, standing: Standing) -> list[Figure]:
    """The first objective over each of the other axes, with the points that nothing beats."""
    first, *others = standing.axes
    shown = [each for each in standing.ranked if each.is_good and all(axis.metric in each.measured for axis in standing.axes)]
    if not shown or not others:
        return []
    ahead = {each.number for each in standing.front}
    return [_front(shown, ahead, across, first) for across in others]


def slices(study: Study, standing: Standing) -> list[tuple[Objective, list[Figure]]]:
    """Each objective against each key."""
    shown = [each for each in standing.ranked if each.values is not None]
    if len(shown) < 2:
        return []
    keys = axes(study.about["space"], [each.entry.point for each in shown])[:MOST_KEYS]
    return [(each, [_slice(shown, axis, each, standing.best) for axis in keys]) for each in study.goal.objectives if keys]


def told(trial: Trial, metrics: Sequence[str]) -> str:
    """What a trial says when pointed at."""
    values = ", ".join(f"{name} {short(trial.measured[name])}" for name in metrics if name in trial.measured)
    return f"{trial.number:04d} {trial.label}: {values}"


def _front(shown: Sequence[Trial], ahead: set[int], across: Objective, up: Objective) -> Figure:
    x = of_values(across.metric, [each.measured[across.metric] for each in shown])
    y = of_values(up.metric, [each.measured[up.metric] for each in shown])
    to_x, to_y = SHEET.x(0.0, 1.0, margin=0.0), SHEET.y(0.0, 1.0, margin=0.0)
    better = "less" if across.direction == "minimize" else "more"
    parts = [*levels(SHEET, y), *names(SHEET, x), _name(SHEET, f"{across.metric} ({better} is better)")]
    points = {each.number: turned(each, [across, up]) for each in shown}
    edge = [each for each in shown if not any(dominates(other, points[each.number]) for other in points.values())]
    corner = [(to_x(x.place(each.measured[across.metric])), to_y(y.place(each.measured[up.metric]))) for each in edge]
    parts.append(Markup('<polyline class="edge" points="{}"/>').format(path(_stairs(sorted(corner), across, up))))
    for each in sorted(shown, key=lambda trial: trial.number in ahead):
        place = to_x(x.place(each.measured[across.metric])), to_y(y.place(each.measured[up.metric]))
        parts.append(_dot(each, place, "ahead c0" if each.number in ahead else "behind", [up.metric, across.metric]))
    legend = [("beaten by none in all axes", 0), ("beaten", 4)]
    return Figure(up.metric, f"over {across.metric}", SHEET.svg(parts, f"{up.metric} over {across.metric}"), legend)


def _stairs(corner: Sequence[tuple[float, float]], across: Objective, up: Objective) -> list[tuple[float, float]]:
    """The edge of what is beaten: from one point of the front to the next at the worse of both."""
    found: list[tuple[float, float]] = []
    for place in corner:
        if found:
            (left, above), (right, below) = found[-1], place
            found.append((right, above) if across.direction == "minimize" else (left, below))
        found.append(place)
    return found


def _slice(shown: Sequence[Trial], axis: Axis, objective: Objective, best: Trial | None) -> Figure:
    there = [each for each in shown if axis.key in each.entry.point]
    y = of_values(objective.metric, [each.measured[objective.metric] for each in shown])
    to_x, to_y = CARD.x(0.0, 1.0, margin=0.0), CARD.y(0.0, 1.0, margin=0.0)
    parts = [*levels(CARD, y), *names(CARD, axis)]
    for each in sorted(there, key=lambda trial: trial is best):
        spread = ((each.number * GOLDEN) % 1 - 0.5) * 0.6 * axis.step * min(1.0, len(there) / MANY)
        place = to_x(axis.place(each.entry.point[axis.key]) + spread), to_y(y.place(each.measured[objective.metric]))
        kind = "ahead c0" if each is best else "behind c1" if each.keeps else "breaks"
        parts.append(_dot(each, place, kind, [objective.metric]))
    legend = [("best", 0)] if any(each is best for each in there) else []
    if any(not each.keeps for each in there):
        legend += [("keeps the constraints", 1), ("does not", 4)]
    elif len(there) > len(legend):
        legend.append(("the others", 1))
    return Figure(axis.key, "", CARD.svg(parts, f"{objective.metric} against {axis.key}"), legend)


def _name(sheet: Sheet, name: str) -> Markup:
    middle = (sheet.left + sheet.width - sheet.right) / 2
    return Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(middle, sheet.height - 5, name)


def _dot(trial: Trial, place: tuple[float, float], kind: str, metrics: Sequence[str]) -> Markup:
    radius = 4 if kind.startswith("ahead") else 2.8
    dot = '<circle class="point {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>'
    return Markup(dot).format(kind, *place, radius, told(trial, metrics))
