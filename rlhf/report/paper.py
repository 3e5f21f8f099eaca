"""The paper that charts are drawn on: static SVG with axes, round ticks and a grid. Colours and fonts are the page's."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """From values to places on the paper."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The place of ``value``."""
        value, low, high = (math.log(each) if self.logarithmic else each for each in (value, self.low, self.high))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int, whole: bool = False) -> list[float]:
        """Round numbers inside of it, about ``wanted`` of them."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            if last > first:
                return [10.0**power for power in range(first, last + 1, max(1, math.ceil((last - first) / wanted)))]
        rough = (self.high - self.low) / wanted
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * each for each in (1, 2, 2.5, 5, 10) if unit * each >= rough * 0.999)
        if whole:
            step = max(1.0, math.ceil(step))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(each * step, 12) for each in range(first, last + 1)]


def scale(low: float, high: float, start: float, end: float, margin: float = 0.06, logarithmic: bool = False) -> Scale:
    """The scale that puts ``low`` and ``high`` at the ends of the paper but for a margin, given as a part of their range."""
    if logarithmic:
        return Scale(low / (high / low) ** margin, high * (high / low) ** margin, start, end, True)
    spread = high - low
    if spread <= 1e-12 * max(abs(low), abs(high), 1e-300):
        spread, margin = max(abs(low), 1.0), 0.5
    return Scale(low - margin * spread, high + margin * spread if high > low or margin else low + spread, start, end)


@dataclass(frozen=True)
class Sheet:
    """A paper of some size with room at its edges for the ticks, in units of the drawing."""

    width: float = 340
    height: float = 190
    left: float = 46
    right: float = 10
    top: float = 10
    bottom: float = 24

    def x(self, low: float, high: float, margin: float = 0.06, logarithmic: bool = False) -> Scale:
        """The scale from its left edge to its right one."""
        return scale(low, high, self.left, self.width - self.right, margin, logarithmic)

    def y(self, low: float, high: float, margin: float = 0.06, logarithmic: bool = False) -> Scale:
        """The scale from its lower edge to its upper one."""
        return scale(low, high, self.height - self.bottom, self.top, margin, logarithmic)

    def rows(self, to_y: Scale, whole: bool = False) -> Iterator[Markup]:
        """Level lines with their numbers."""
        for value in to_y.ticks(4, whole):
            ends, y = (self.left, self.width - self.right), to_y(value)
            yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(*ends, y, y)
            yield Markup('<text class="tick y" x="{}" y="{:.1f}">{}</text>').format(self.left - 6, y + 3.5, short(value))

    def columns(self, to_x: Scale, whole: bool = False) -> Iterator[Markup]:
        """The numbers below."""
        for value in to_x.ticks(5, whole):
            yield self.below(to_x(value), short(value))

    def below(self, x: float, text: str) -> Markup:
        """A text below the paper at ``x``."""
        return Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(x, self.height - 7, text)

    def svg(self, parts: Sequence[Markup], label: str) -> Markup:
        """The drawing; ``label`` is read aloud in its place."""
        head = '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        return Markup(head).format(self.width, self.height, escape(label)) + Markup("").join(parts) + Markup("</svg>")


CARD = Sheet()
"""Of one card among several."""


def path(places: Sequence[Point]) -> str:
    """Places as SVG writes them."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def short(value: float) -> str:
    """Four digits, as a person reads them."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"
