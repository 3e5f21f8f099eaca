"""Which chart each metric of a run belongs to."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rlhf.report import chart, paper
from rlhf.report.folder import Row

INTERVAL = re.compile(r"^(?P<before>.+)_(?P<end>low|high)(?P<after>/.*)?$")
NOT_METRICS = ("round", "kind", "seconds")
NO_CURVES = ("baseline/", "progress/", "eval/pairs/", "signs/", "best_of/")
"""Levels on another metric's chart, axes, counts, and what has one value where all is well or in a whole run."""
PEAK = "mem/peak_gib"
OF_THE_REFERENCE = "_sft"
"""End of the names of what is measured on the SFT policy, and so never moves."""
TRAIN, HELD_OUT, PUBLISHED = 0, 1, 2
"""Colours."""

SECTIONS = (
    ("Held-out measurements", ("reward/", "eval/")),
    ("Training", ("loss", "objective/", "rewards/", "policy/", "val/", "response/", "grad_norm/", "learning_rate/")),
    ("Speed and memory", ("perf/", "time/", "mem/")),
)
"""Metrics by the beginning of their name, in the order of the page; what fits nowhere is training's."""


def sections(rows: Sequence[Row], published: Mapping[str, Sequence[paper.Point]] = {}) -> list[tuple[str, list[chart.Figure]]]:
    """The charts of a run by section; a metric that was measured once is no curve, unless nothing was measured twice.

    ``published`` holds (round, value) of others by metric, drawn beside the run's own.
    """
    by_section: dict[str, list[chart.Figure]] = {title: [] for title, _ in SECTIONS}
    bands = _bands(row for row in rows if row["kind"] == "eval")
    for name in _names(rows):
        figure = _figure(name, rows, bands[name], published.get(name, ()))
        if figure is not None:
            by_section[_section(name)].append(figure)
    return [(title, figures) for title, figures in by_section.items() if figures]


def legend(series: Sequence[chart.Series]) -> list[tuple[str, int]]:
    """Name and colour of lines, of which one alone needs neither."""
    return [(each.name, each.colour) for each in series] if len(series) > 1 else []


def number(value: object) -> float:
    """A number of the record; those that are not finite were written as text."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _names(rows: Sequence[Row]) -> list[str]:
    """All metrics but the ends of intervals and what belongs to another metric's chart, in the order of the sections."""
    found = dict.fromkeys(name for row in rows for name in row if name not in NOT_METRICS)
    moving = [name for name in found if not name.startswith(NO_CURVES) and not name.endswith(OF_THE_REFERENCE)]
    moving = [name for name in moving if not name.startswith("mem/") or name == PEAK]  # the phases' are in a table
    plain = [name for name in moving if not INTERVAL.match(name)]
    starts = [start for _, beginnings in SECTIONS for start in beginnings]

    def place(name: str) -> int:
        return next((at for at, start in enumerate(starts) if name.startswith(start)), len(starts))

    return sorted(plain, key=place)


def _section(name: str) -> str:
    return next((title for title, starts in SECTIONS if name.startswith(starts)), "Training")


def _figure(
    name: str, rows: Sequence[Row], band: Sequence[tuple[float, float, float]], published: Sequence[paper.Point]
) -> chart.Figure | None:
    series = []
    for kind, title, colour in (("train", "training", TRAIN), ("eval", "held-out", HELD_OUT)):
        points = [(row["round"], number(row[name])) for row in rows if row["kind"] == kind and name in row]
        if points:
            held_out = kind == "eval"
            series.append(chart.Series(title, points, colour, band if held_out else (), dots=held_out))
    if not series or max(len({x for x, _ in each.points}) for each in series) < 2:
        return None
    last = paper.short(series[-1].points[-1][1])
    if published:
        series.append(chart.Series("published", published, PUBLISHED))
    return chart.Figure(name, last, chart.lines(series, _references(name, rows)), legend(series))


def _bands(rows: Iterable[Row]) -> dict[str, list[tuple[float, float, float]]]:
    """Round, low and high end of the intervals, by the metric they belong to."""
    bands: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for row in rows:
        ends: dict[str, dict[str, float]] = defaultdict(dict)
        for key in row:
            if match := INTERVAL.match(key):
                ends[match["before"] + (match["after"] or "")][match["end"]] = number(row[key])
        for name, both in ends.items():
            if len(both) == 2 and all(map(math.isfinite, both.values())):
                bands[name].append((row["round"], both["low"], both["high"]))
    return bands


def _references(name: str, rows: Sequence[Row]) -> list[tuple[str, float]]:
    """What cheap scorers reach, as levels on the chart of the accuracy they belong to."""
    if name.split("/")[:2] != ["eval", "accuracy"]:
        return []
    source = name.removeprefix("eval/accuracy")
    found: dict[str, float] = {}
    for row in rows:
        for key in row:
            scorer, slash, rest = key.removeprefix("baseline/").partition("/")
            of_it = key.startswith("baseline/") and slash + rest == source and not INTERVAL.match(key)
            if of_it and math.isfinite(number(row[key])):
                found[scorer.replace("_", " ")] = number(row[key])
    return list(found.items())
