"""The axis of a swept key: where its values are drawn."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rlhf.report.paper import Scale, Sheet, scale, short
from sweeps.space import Point, text

FAR = 30.0
"""Metrics that are all positive and span more than this factor are drawn on a logarithmic scale."""
MOST_NAMES = 12
WIDTH_OF_A_LETTER = 6.2
LONGEST = 18
"""Characters of a value's name that are shown."""


@dataclass(frozen=True)
class Axis:
    """Places from 0 to 1: of names at equal distances, of numbers on a scale."""

    key: str
    names: Sequence[str]
    """Values at equal distances; empty for numbers on a scale."""
    numbers: Scale | None

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Places with what is written there."""
        if self.numbers is not None:
            ticks = self.numbers.ticks(4)
            apart = len({short(each) for each in ticks}) == len(ticks)
            return [(self.numbers(each), short(each) if apart else f"{each:.7g}") for each in ticks]
        every = math.ceil(len(self.names) / MOST_NAMES)
        return [(self.of_name(at), shortened(each)) for at, each in enumerate(self.names) if at % every == 0]

    @property
    def step(self) -> float:
        """The distance between two names; 0 on a scale."""
        return 0.0 if self.numbers is not None else 1.0 / len(self.names)

    def of_name(self, at: int) -> float:
        """The place of a name."""
        return (at + 0.5) / len(self.names)

    def place(self, value: Any) -> float:
        """The place of a value of the key."""
        if self.numbers is not None:
            return self.numbers(float(value))
        return self.of_name(self.names.index(text(value)))


def axes(space: Sequence[Mapping[str, Any]], points: Sequence[Point]) -> list[Axis]:
    """The axes of the keys of ``space`` (as ``study.json`` has it) that have two values or more among ``points``."""
    found = []
    for key in dict.fromkeys(each["key"] for each in space):
        values = [point[key] for point in points if key in point]
        if len({text(each) for each in values}) < 2:
            continue
        dimensions = [each for each in space if each["key"] == key]
        if any("values" in each for each in dimensions) or not all(_is_number(each) for each in values):
            order = [value for each in dimensions for value in each.get("values", ())]
            found.append(Axis(key, list(dict.fromkeys(map(text, _sorted([*order, *values])))), None))
        else:
            ends = [*map(float, values), *(each["low"] for each in dimensions), *(each["high"] for each in dimensions)]
            log = min(ends) > 0 and any(each["log"] for each in dimensions)
            found.append(Axis(key, [], scale(min(ends), max(ends), 0.0, 1.0, 0.0, log)))
    return found


def of_values(key: str, values: Sequence[float]) -> Axis:
    """The axis of a metric; logarithmic where its values are all positive and far apart."""
    low, high = min(values), max(values)
    return Axis(key, [], scale(low, high, 0.0, 1.0, 0.03, low > 0 and high / low > FAR))


def levels(sheet: Sheet, axis: Axis) -> Iterator[Markup]:
    """Level lines across a sheet at the marks of an upright axis."""
    to_y, right = sheet.y(0.0, 1.0, margin=0.0), sheet.width - sheet.right
    for place, name in axis.marks:
        y = to_y(place)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(sheet.left, right, y, y)
        yield Markup('<text class="tick y" x="{}" y="{:.1f}">{}</text>').format(sheet.left - 6, y + 3.5, name)


def names(sheet: Sheet, axis: Axis) -> Iterator[Markup]:
    """The marks of an axis below a sheet, without those that would lie over the one before."""
    to_x, end = sheet.x(0.0, 1.0, margin=0.0), 0.0
    for place, name in axis.marks:
        x, half = to_x(place), WIDTH_OF_A_LETTER / 2 * len(name)
        if x - half >= end:
            end = x + half + WIDTH_OF_A_LETTER
            yield Markup('<text class="tick x" x="{:.1f}" y="{}">{}</text>').format(x, sheet.height - sheet.bottom + 17, name)


def shortened(name: str, longest: int = LONGEST) -> str:
    """A name with its middle left out if it is long."""
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-(longest // 2) :]}"


def _sorted(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, anything else as it comes."""
    return sorted(values) if all(map(_is_number, values)) else list(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
