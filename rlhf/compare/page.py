"""The page of a comparison: one file, offline, without a script; every text of a run is escaped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf.compare import axes, differences, terminal
from rlhf.compare.axes import AXES, KL
from rlhf.compare.comparison import Comparison
from rlhf.report import chart
from rlhf.report.page import environment

DRAWN = 8
"""Groups in a chart; more cannot be told apart. The tables have all."""
OPEN, MEASURED = 3, 3
"""Metrics whose charts are shown at once, and of many sides those whose figures are; the others are folded."""


def render(found: Comparison, command: str) -> str:
    """The page as text; ``command`` makes it anew."""
    return environment(Path(__file__).parent).get_template("page.html").render(contents(found, command))


def contents(found: Comparison, command: str) -> dict[str, Any]:
    """Everything the template shows."""
    metrics = axes.metrics_of(found.groups)
    rewards = axes.kl_of(found.groups)[1]
    few = len(found.groups) <= terminal.FEW
    heads = [each for each in found.measures if each.headline]
    first = [each for each in found.equals if few or each.axis == KL or each.metric == metrics[0]]
    drawn = [(metric, figures) for metric in metrics if (figures := list(_figures(found, metric)))]
    return {
        "found": found,
        "title": " against ".join(names)
        if len(names := [each.first.name for each in found.groups]) == 2
        else f"{len(names)} sides compared",
        "letters": [each.letter for each in found.groups],
        "about": {each.letter: terminal.about(found, each) for each in found.groups},
        "colours": {each.letter: at % DRAWN for at, each in enumerate(found.groups)},
        "parts": differences.by_affects(found.settings),
        "facts": [each for each in found.facts if not differences.is_package(each)],
        "packages": [each for each in found.facts if differences.is_package(each)],
        "headlines": heads if few else heads[:MEASURED],
        "more_headlines": [] if few else heads[MEASURED:],
        "first_equals": first,
        "more_equals": [each for each in found.equals if each not in first],
        "others": [each for each in found.measures if not each.headline],
        "place": terminal.place,
        "at_kl": [figure for reward in rewards for figure in [_curves(found, reward, KL)] if figure],
        "shown": drawn[:OPEN],
        "folded": drawn[OPEN:],
        "left_out": len(found.groups) - DRAWN,
        "command": command,
        "whisker": chart.interval,
        "judged": terminal.judged,
        "because": terminal.because,
        "verdict": terminal.verdict,
        "by_letter": lambda found: {each.letter: each for each in found},
        "told": terminal.told,
        "reached": terminal.reached,
    }


def _figures(found: Comparison, metric: str) -> Iterator[chart.Figure]:
    """Of each axis on which two have curves, the curves; of the first, the difference too."""
    for axis in axes.axes_of(found.groups):
        figure = _curves(found, metric, axis)
        if figure is not None:
            yield figure
            if (apart := _difference(found, metric, axis)) is not None:
                yield apart


def _curves(found: Comparison, metric: str, axis: str) -> chart.Figure | None:
    series = []
    for colour, group in enumerate(found.groups[:DRAWN]):
        line, band = axes.of_group(group, metric, axis, found.kl)
        if len(line) > 1:
            series.append(chart.Series(group.letter, line, colour, band, dots=len(line) <= chart.MOST_TOLD))
    if len(series) < 2:
        return None
    note = f"over {found.kl}" if axis == KL else f"over {AXES[axis]}"
    drawing = chart.lines(series, whole_x=axis in ("step", "samples", "tokens"))
    return chart.Figure(metric, note, drawing, [(each.name, each.colour) for each in series])


def _difference(found: Comparison, metric: str, axis: str) -> chart.Figure | None:
    """The curves minus the base line's, where both have been."""
    base, _ = axes.of_group(found.groups[0], metric, axis)
    series = []
    for colour, group in enumerate(found.groups[:DRAWN]):
        line, _ = axes.of_group(group, metric, axis)
        if colour and line and base:
            low, high = max(base[0][0], line[0][0]), min(base[-1][0], line[-1][0])
            places = sorted({place for place, _ in [*base, *line] if low <= place <= high})
            points = [(place, axes.at(line, place) - axes.at(base, place)) for place in places]
            if len(points) > 1:
                series.append(chart.Series(f"{group.letter} − {found.groups[0].letter}", points, colour))
    if not series:
        return None
    legend = [(each.name, each.colour) for each in series]
    drawing = chart.lines(series, [("", 0.0)], whole_x=axis in ("step", "samples", "tokens"))
    return chart.Figure(f"{metric}, difference", f"over {AXES[axis]}", drawing, legend)
