"""Screening: which of many switches matter, from few runs. Each switch has two values, and every run sets all of them.

The design of Plackett and Burman (1946) gives the main effects of up to n - 1 switches from n runs, each estimated from all
runs. It is folded over: every run comes with its mirror image, so that no main effect is mixed up with a pair of switches
that act together (Box and Wilson 1951).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlhf.compare.intervals import of_mean, student_t
from rlhf.fault import Fault
from sweeps.space import Choices, Point, Space, text

FIRST_ROWS = {
    4: "++-",
    8: "+++-+--",
    12: "++-+++---+-",
    16: "++++-+-++--+---",
    20: "++--++++-+-+----++-",
    24: "+++++-+-++--++--+-+----",
}
"""First row of each design by its number of runs; the others are its rotations, and a last row has every switch low."""

LENTH = 1.5
CUT = 2.5
FEWEST = 4
"""Effects from which Lenth's margin is told. Its degrees of freedom are a third of their number (Lenth 1989): of three and
fewer that is one at most, and a single effect that is real is a third or more of what chance is told from."""
UNTOLD = f"no intervals: one run a setting and fewer than {FEWEST} switches do not tell chance; sweep.seeds=3 gives them"


@dataclass(frozen=True)
class Effect:
    """What a switch does on average over all settings of the others: the metric at its second value minus at its first."""

    key: str
    values: tuple[object, object]
    effect: float
    ends: tuple[float, float] | None
    """Of its 95 % interval; None where nothing tells it."""

    @property
    def decided(self) -> bool:
        """Whether 0 is outside of the interval."""
        return self.ends is not None and (self.ends[0] > 0 or self.ends[1] < 0)

    @property
    def verdict(self) -> str:
        """In words, what its interval says against it."""
        return "" if self.decided or self.ends is None else "not distinguishable from none"


def design(factors: int) -> list[tuple[bool, ...]]:
    """Settings (true: the second value) of ``factors`` switches in each run of the smallest design, and of its mirror.

    Raises:
        Fault: there are more switches than the largest design has room for.
    """
    runs = next((runs for runs in FIRST_ROWS if factors < runs), None)
    if runs is None:
        raise Fault(f"sweep.mode=screen: {factors} switches; at most {max(FIRST_ROWS) - 1} go into one study; pin some")
    first = [sign == "+" for sign in FIRST_ROWS[runs]]
    rows = [tuple(first[-turn:] + first[:-turn])[:factors] for turn in range(runs - 1)] + [(False,) * factors]
    return [*rows, *(tuple(not each for each in row) for row in rows)]


def points(space: Space) -> list[Point]:
    """The runs of a screening of ``space``.

    Raises:
        Fault: a dimension has not exactly two values, or exists under a condition.
    """
    for dimension in space.dimensions:
        if not isinstance(dimension.domain, Choices) or len(dimension.domain.values) != 2:
            raise Fault(f"{dimension.key}: a screening needs exactly two values; write {dimension.key}=one,other")
        if dimension.only_if:
            raise Fault(f"sweep.only_if.{dimension.key}: a screening sets every switch in every run; pin it or leave it out")
    pairs = {each.key: each.domain.values for each in space.dimensions if isinstance(each.domain, Choices)}
    return [{key: values[high] for (key, values), high in zip(pairs.items(), row, strict=True)} for row in design(len(pairs))]


def count(space: Space) -> int:
    """How many different runs a screening of ``space`` has: with few switches some come twice."""
    return len({tuple(map(str, point.values())) for point in points(space)})


def effects(space: Space, measured: Sequence[tuple[Point, Mapping[int, float]]]) -> list[Effect]:
    """The effect of each switch, largest first, from all runs of the design with their metric by seed.

    With two or more common seeds the interval is Student's (or the bootstrap's) over the effects of single seeds; with one
    it is Lenth's (1989), whose error comes from the effects themselves, most of which it takes to be small; of fewer than
    ``FEWEST`` there is none then.
    """
    seeds = sorted(set.intersection(*(set(values) for _, values in measured)))
    found = []
    for dimension in space.dimensions:
        assert isinstance(dimension.domain, Choices)
        low, high = dimension.domain.values
        by_seed = [_contrast(dimension.key, high, [(point, values[seed]) for point, values in measured]) for seed in seeds]
        found.append(Effect(dimension.key, (low, high), statistics.fmean(by_seed), of_mean(by_seed)))
    if len(seeds) == 1 and len(found) >= FEWEST:
        margin = lenth([each.effect for each in found])
        found = [replace(each, ends=(each.effect - margin, each.effect + margin)) for each in found]
    return sorted(found, key=lambda each: -abs(each.effect))


def line(each: Effect) -> str:
    """An effect as a terminal shows it."""
    first, second = map(text, each.values)
    ends = "" if each.ends is None else f" [{each.ends[0]:+.4g}, {each.ends[1]:+.4g}]"
    return f"{each.key} {first} -> {second}: {each.effect:+.4g}{ends}{'  ' if each.verdict else ''}{each.verdict}"


def lenth(found: Sequence[float]) -> float:
    """Margin of error of unreplicated effects (Lenth 1989): t times 1.5 medians of those that look like noise."""
    sizes = [abs(each) for each in found]
    rough = LENTH * statistics.median(sizes)
    small = [each for each in sizes if each < CUT * rough] or sizes
    return student_t(max(1.0, len(found) / 3)) * LENTH * statistics.median(small)


def _contrast(key: str, high: object, runs: Sequence[tuple[Point, float]]) -> float:
    above = [value for point, value in runs if point[key] == high]
    below = [value for point, value in runs if point[key] != high]
    return statistics.fmean(above) - statistics.fmean(below)
