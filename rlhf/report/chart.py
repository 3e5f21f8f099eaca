"""Charts as static SVG: no script, no network, a few kilobytes each. Colours and fonts come from the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
MOST_POINTS = 240
"""A line of more rows is drawn through the means of as many groups of neighbours."""
MOST_TOLD = 40
"""Points of a line that say their numbers when pointed at."""
LOG_FROM = 30.0
"""Values that are all positive and span more than this factor are drawn on a logarithmic scale."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line, with the place of its interval where it has one. ``colour`` is the number of a colour of the page."""

    name: str
    points: Sequence[Point]
    colour: int
    band: Sequence[tuple[float, float, float]] = ()
    """x, low, high."""
    dots: bool = False


@dataclass(frozen=True)
class _Scale:
    """From values to places on the paper."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        value, low, high = (math.log(each) if self.logarithmic else each for each in (value, self.low, self.high))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def lines(series: Sequence[Series], references: Sequence[tuple[str, float]] = (), whole_x: bool = True) -> Markup:
    """Lines over a common x; ``references`` are dashed levels with a name. Places with no number are left out."""
    drawn = [Series(each.name, _thinned(each.points), each.colour, each.band, each.dots) for each in series]
    xs = [x for each in drawn for x, _ in each.points]
    ys = [y for each in drawn for _, y in each.points] + [y for _, y in references]
    ys += [y for each in drawn for _, low, high in each.band for y in (low, high)]
    if not xs:
        return Markup("")
    logarithmic = min(ys) > 0 and max(ys) / min(ys) > LOG_FROM
    to_x = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT, margin=0.0)
    to_y = _scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP, logarithmic=logarithmic)
    parts = [_grid(to_x, to_y, whole_x)]
    for name, level in references:
        y = to_y(level)
        parts.append(Markup('<line class="ref" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y))
        parts.append(Markup('<text class="refname" x="{}" y="{:.1f}">{}</text>').format(WIDTH - RIGHT - 2, y - 3, name))
    for each in drawn:
        if each.band:
            edge = [(to_x(x), to_y(high)) for x, _, high in each.band] + [(to_x(x), to_y(low)) for x, low, _ in each.band[::-1]]
            parts.append(Markup('<polygon class="band c{}" points="{}"/>').format(each.colour, _path(edge)))
        places = [(to_x(x), to_y(y)) for x, y in each.points]
        parts.append(Markup('<polyline class="line c{}" points="{}"/>').format(each.colour, _path(places)))
        told_every = math.ceil(len(places) / MOST_TOLD)
        for (x, y), (at, value) in list(zip(places, each.points, strict=True))[::told_every]:
            shown = each.dots or len(places) == 1
            told = Markup("<title>{} at {}: {}</title>").format(each.name, short(at), short(value))
            kind = f"dot c{each.colour}" if shown else "hover"
            parts.append(
                Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>').format(
                    kind, x, y, 3 if shown else 5, told
                )
            )
    return _svg(parts, ", ".join(each.name for each in series))


def histogram(samples: Sequence[tuple[str, Sequence[float], int]], bins: int = 24) -> Markup:
    """Overlaid distributions, each of (name, values, colour), with a line at its mean."""
    values = [value for _, each, _ in samples for value in each]
    if not values:
        return Markup("")
    low, high = min(values), max(values)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    width = (high - low) / bins
    counts = []
    for _, each, _ in samples:
        filled = [0] * bins
        for value in each:
            filled[min(int((value - low) / width), bins - 1)] += 1
        counts.append(filled)
    to_x = _scale(low, high, LEFT, WIDTH - RIGHT, margin=0.02)
    to_y = _scale(0, max(max(filled) for filled in counts), HEIGHT - BOTTOM, TOP, margin=0.0)
    parts = [_grid(to_x, to_y, whole_x=False, whole_y=True)]
    for (name, each, colour), filled in zip(samples, counts, strict=True):
        outline = [(to_x(low), to_y(0))]
        for place, count in enumerate(filled):
            left, right = low + place * width, low + (place + 1) * width
            outline += [(to_x(left), to_y(count)), (to_x(right), to_y(count))]
        outline.append((to_x(high), to_y(0)))
        parts.append(
            Markup('<polygon class="area c{}" points="{}"><title>{}</title></polygon>').format(colour, _path(outline), name)
        )
        mean = sum(each) / len(each) if each else low
        told = Markup("<title>mean of {}: {}</title>").format(name, short(mean))
        ends = f'x1="{to_x(mean):.1f}" x2="{to_x(mean):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"'
        parts.append(Markup('<line class="mean c{}" {}>{}</line>').format(colour, Markup(ends), told))
    return _svg(parts, " and ".join(name for name, _, _ in samples))


def interval(low: float, value: float, high: float) -> Markup:
    """A value with its interval against zero."""
    reach = max(abs(low), abs(high)) or 1.0
    to_x = _scale(min(0.0, low - 0.05 * reach), max(0.0, high + 0.05 * reach), 6, 174, margin=0.0)
    zero, left, at, right = (round(to_x(each), 1) for each in (0.0, low, value, high))
    return Markup(
        '<svg class="interval" viewBox="0 0 180 22" role="img" aria-label="interval from {} to {}">'
        '<line class="axis" x1="6" x2="174" y1="11" y2="11"/><line class="zero" x1="{}" x2="{}" y1="3" y2="19"/>'
        '<line class="whisker c1" x1="{}" x2="{}" y1="11" y2="11"/><circle class="dot c1" cx="{}" cy="11" r="4.5"/></svg>'
    ).format(short(low), short(high), zero, zero, left, right, at)


def short(value: float) -> str:
    """Four digits, as a person reads them."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def _scale(low: float, high: float, start: float, end: float, margin: float = 0.06, logarithmic: bool = False) -> _Scale:
    if logarithmic:
        return _Scale(low / (high / low) ** margin, high * (high / low) ** margin, start, end, True)
    spread = high - low
    if spread <= 1e-12 * max(abs(low), abs(high), 1e-300):
        spread, margin = max(abs(low), 1.0), 0.5
    return _Scale(low - margin * spread, high + margin * spread if high > low or margin else low + spread, start, end)


def _grid(to_x: _Scale, to_y: _Scale, whole_x: bool, whole_y: bool = False) -> Markup:
    parts = []
    for value in _ticks(to_y, 4, whole_y):
        y = to_y(value)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y))
        parts.append(Markup('<text class="tick y" x="{}" y="{:.1f}">{}</text>').format(LEFT - 6, y + 3.5, short(value)))
    for value in _ticks(to_x, 5, whole_x):
        text = Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>')
        parts.append(text.format(to_x(value), HEIGHT - 7, short(value)))
    return Markup("").join(parts)


def _ticks(scale: _Scale, wanted: int, whole: bool) -> list[float]:
    """Round numbers inside of the scale."""
    if scale.logarithmic:
        first, last = math.ceil(math.log10(scale.low)), math.floor(math.log10(scale.high))
        if last > first:
            return [10.0**power for power in range(first, last + 1, max(1, math.ceil((last - first) / wanted)))]
    rough = (scale.high - scale.low) / wanted
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * each for each in (1, 2, 2.5, 5, 10) if unit * each >= rough * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [round(each * step, 12) for each in range(first, last + 1)]


def _thinned(points: Sequence[Point]) -> list[Point]:
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    size = math.ceil(len(finite) / MOST_POINTS)
    groups = [finite[at : at + size] for at in range(0, len(finite), size)] if size > 1 else [[each] for each in finite]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _path(places: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _svg(parts: Sequence[Markup], label: str) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, escape(label))
    return head + Markup("").join(parts) + Markup("</svg>")
