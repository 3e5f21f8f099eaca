"""Whether more epochs help: what was measured after each pass over the data, of the best trials that were evaluated then."""

from collections.abc import Sequence

from rlhf.report import chart
from rlhf.report.chart import Figure
from rlhf.report.paper import short
from sweeps import epochs
from sweeps.answer.folder import Study, Trial
from sweeps.answer.standing import Standing

COLOURS = (0, 1, 2, 3)
"""Of the trials that are drawn, the best first."""


def figures(study: Study, standing: Standing) -> list[Figure]:
    """A chart a measurement, over epochs, of a study that evaluates after each."""
    if not study.about.get("by_epoch"):
        return []
    found = [(each, epochs.passes(track.run)) for each in standing.ranked if each.result for track in each.tracks[:1]]
    drawn = [(each, passed) for each, passed in found if len(passed) >= epochs.FEWEST][: len(COLOURS)]
    bests = epochs.best(drawn[0][1], study.about["stage"]) if drawn else {}
    names = [name for name in epochs.SHOWN if any(name in each.values for _, passed in drawn for each in passed)]
    return [_figure(name, drawn, bests.get(name)) for name in names]


def _figure(name: str, drawn: Sequence[tuple[Trial, Sequence[epochs.Passed]]], best: float | None) -> Figure:
    series = []
    for colour, (trial, passed) in zip(COLOURS, drawn, strict=False):
        points = [(each.epoch, each.values[name]) for each in passed if name in each.values]
        series.append(chart.Series(f"{trial.number:04d}", points, colour, dots=True))
    whole = all(point == int(point) for each in series for point, _ in each.points)
    note = "" if best is None else f"{series[0].name} best after {short(round(best, 2))}"
    return Figure(epochs.SHOWN[name], note, chart.lines(series, whole_x=whole), [(each.name, each.colour) for each in series])
