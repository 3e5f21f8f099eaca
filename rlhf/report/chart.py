"""Charts as static SVG: no script, no network, a few kilobytes each. Colours and fonts come from the page's style."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rlhf.report.paper import CARD, Point, path, scale, short

MOST_POINTS = 240
"""A line of more rows is drawn through the means of as many groups of neighbours."""
MOST_TOLD = 40
"""Points of a line that say their numbers when pointed at."""
LOG_FROM = 30.0
"""Values that are all positive and span more than this factor are drawn on a logarithmic scale."""


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
class Figure:
    """A drawing with its heading, as a page shows it."""

    title: str
    note: str
    """What stands beside the title, such as the latest value."""
    drawing: Markup
    legend: Sequence[tuple[str, int]] = ()
    """Name and colour of what is drawn, where more than one thing is."""


def lines(series: Sequence[Series], references: Sequence[tuple[str, float]] = (), whole_x: bool = True) -> Markup:
    """Lines over a common x; ``references`` are dashed levels with a name. Places with no number are left out."""
    drawn = [Series(each.name, _thinned(each.points), each.colour, each.band, each.dots) for each in series]
    xs = [x for each in drawn for x, _ in each.points]
    ys = [y for each in drawn for _, y in each.points] + [y for _, y in references]
    ys += [y for each in drawn for _, low, high in each.band for y in (low, high)]
    if not xs:
        return Markup("")
    logarithmic = min(ys) > 0 and max(ys) / min(ys) > LOG_FROM
    to_x = CARD.x(min(xs), max(xs), margin=0.0)
    to_y = CARD.y(min(ys), max(ys), logarithmic=logarithmic)
    parts = [*CARD.rows(to_y), *CARD.columns(to_x, whole_x)]
    for name, level in references:
        right, y = CARD.width - CARD.right, to_y(level)
        parts.append(Markup('<line class="ref" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(CARD.left, right, y, y))
        parts.append(Markup('<text class="refname" x="{}" y="{:.1f}">{}</text>').format(right - 2, y - 3, name))
    for each in drawn:
        if each.band:
            edge = [(to_x(x), to_y(high)) for x, _, high in each.band] + [(to_x(x), to_y(low)) for x, low, _ in each.band[::-1]]
            parts.append(Markup('<polygon class="band c{}" points="{}"/>').format(each.colour, path(edge)))
        places = [(to_x(x), to_y(y)) for x, y in each.points]
        parts.append(Markup('<polyline class="line c{}" points="{}"/>').format(each.colour, path(places)))
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
    return CARD.svg(parts, ", ".join(each.name for each in series))


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
    to_x = CARD.x(low, high, margin=0.02)
    to_y = CARD.y(0, max(max(filled) for filled in counts), margin=0.0)
    parts = [*CARD.rows(to_y, whole=True), *CARD.columns(to_x)]
    for (name, each, colour), filled in zip(samples, counts, strict=True):
        outline = [(to_x(low), to_y(0))]
        for place, count in enumerate(filled):
            left, right = low + place * width, low + (place + 1) * width
            outline += [(to_x(left), to_y(count)), (to_x(right), to_y(count))]
        outline.append((to_x(high), to_y(0)))
        parts.append(
            Markup('<polygon class="area c{}" points="{}"><title>{}</title></polygon>').format(colour, path(outline), name)
        )
        mean = sum(each) / len(each) if each else low
        told = Markup("<title>mean of {}: {}</title>").format(name, short(mean))
        ends = f'x1="{to_x(mean):.1f}" x2="{to_x(mean):.1f}" y1="{CARD.top}" y2="{CARD.height - CARD.bottom}"'
        parts.append(Markup('<line class="mean c{}" {}>{}</line>').format(colour, Markup(ends), told))
    return CARD.svg(parts, " and ".join(name for name, _, _ in samples))


def interval(low: float, value: float, high: float, reach: float | None = None) -> Markup:
    """A value with its interval against zero; several that shall be compared have one ``reach``, the largest of their ends."""
    least, most = (low, high) if reach is None else (-reach, reach)
    margin = 0.05 * (max(abs(least), abs(most)) or 1.0)
    to_x = scale(min(0.0, least - margin), max(0.0, most + margin), 6, 174, margin=0.0)
    zero, left, at, right = (round(to_x(each), 1) for each in (0.0, low, value, high))
    return Markup(
        '<svg class="interval" viewBox="0 0 180 22" role="img" aria-label="interval from {} to {}">'
        '<line class="axis" x1="6" x2="174" y1="11" y2="11"/><line class="zero" x1="{}" x2="{}" y1="3" y2="19"/>'
        '<line class="whisker c1" x1="{}" x2="{}" y1="11" y2="11"/><circle class="dot c1" cx="{}" cy="11" r="4.5"/></svg>'
    ).format(short(low), short(high), zero, zero, left, right, at)


def _thinned(points: Sequence[Point]) -> list[Point]:
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    size = math.ceil(len(finite) / MOST_POINTS)
    groups = [finite[at : at + size] for at in range(0, len(finite), size)] if size > 1 else [[each] for each in finite]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
