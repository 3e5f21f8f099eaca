"""The space of a study: its dimensions, on which conditions they exist, and what a value brings along.

Spaces are written in Hydra's override grammar, on the command line (`sft.learning_rate=tag(log,interval(1e-5,1e-3))`) or
in `sweep.space`. A key on the command line takes the place of the dimension of that name: a single value pins it, a
sweep replaces it.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig

from rlhf.explain import keys
from rlhf.fault import Fault
from rlhf.mistyped import near
from rlhf.preflight import override_key, with_space
from sweeps import conditions
from sweeps.conditions import Conditions

Point = dict[str, Any]
"""A value for each dimension that exists at this point, by key."""


@dataclass(frozen=True)
class Choices:
    """Some values."""

    values: tuple[Any, ...]
    step: float | None = None
    """Between numbers at equal distances (`range`), whose order then means something to a sampler."""


@dataclass(frozen=True)
class Interval:
    """All numbers, or all whole numbers, from ``low`` to ``high``, both included."""

    low: float
    high: float
    log: bool
    whole: bool


@dataclass(frozen=True)
class Dimension:
    """One key and where its values come from."""

    key: str
    """As on the left side of an override; of a data set that is added to a mix, with its place."""
    element: str
    """The left side of its overrides."""
    domain: Choices | Interval
    only_if: Conditions = ()
    brought_by: Conditions = ()
    """What brought it along: there may be others of the same key, under other conditions."""

    @property
    def name(self) -> str:
        """Tells it from other dimensions of the same key."""
        return f"{self.key} if {conditions.joined(self.brought_by)}" if self.brought_by else self.key

    @property
    def is_always_a_number(self) -> bool:
        """Whether its values are numbers in an order, and it exists at every point."""
        return not self.only_if and not (isinstance(self.domain, Choices) and self.domain.step is None)

    def override(self, value: Any) -> str:
        """``key=value``, which composes to ``value``."""
        return f"{self.element}={quoted(value)}"


@dataclass(frozen=True)
class Space:
    """Dimensions in the order written, the overrides that are the same everywhere, and what values bring along."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]
    brought: tuple[tuple[Conditions, tuple[str, ...]], ...]
    pinned: Mapping[str, str]
    """Keys of ``fixed`` with their values as text, which conditions may look at."""

    @classmethod
    def of(cls, arguments: Sequence[str], sweep: DictConfig) -> "Space":
        """The space of a command line and the `sweep` it chose.

        Raises:
            Fault: something is not written as it should be, or a condition names what is no dimension before it, or a value
                that it never has.
        """
        parser = OverridesParser.create()
        parsed = parser.parse_overrides(with_space(list(arguments), sweep))
        only_if = {key: conditions.parse(f"sweep.only_if.{key}", each) for key, each in _texts(sweep.only_if).items()}
        swept = [each for each in parsed if each.is_sweep_override()]
        fixed = [each for each in parsed if not each.is_sweep_override()]
        written = [*map(str, sweep.space), *map(axis, parsed)]
        for key in (each for each in only_if if each not in written):
            raise Fault(f"sweep.only_if.{key}: is no dimension of this space{near(key, written)}")
        dimensions = [_dimension(each, only_if.get(axis(each), ())) for each in swept]
        taken = {*map(axis, swept), *(override_key(str(each.input_line)) for each in fixed)}
        brought = []
        for when, overrides in sweep.brings.items():
            where, needed = f"sweep.brings.{when}", conditions.parse("sweep.brings", str(when))
            for unknown in (each.key for each in needed if each.key not in taken and not keys.is_known(each.key)):
                raise Fault(f"{where}: there is no key `{unknown}`{keys.near(unknown)}")
            coming = [each for each in parser.parse_overrides([*map(str, overrides)]) if axis(each) not in taken]
            spaces = [_dimension(each, needed) for each in coming if each.is_sweep_override()]
            dimensions += [replace(each, brought_by=needed) for each in spaces]
            for each in coming:
                if not keys.is_known(key := each.key_or_group):
                    raise Fault(f"{where}: {each.input_line}: there is no key `{key}`{keys.near(key)}")
            brought.append((needed, tuple(str(each.input_line) for each in coming if not each.is_sweep_override())))
        pinned = {each.key_or_group: text(each.value()) for each in fixed if not each.is_delete()}
        space = cls(tuple(dimensions), tuple(str(each.input_line) for each in fixed), tuple(brought), pinned)
        space._check(only_if)
        listed = _listed(parser.parse_overrides([f"{key}={each}" for key, each in _texts(sweep.space).items()]), parsed)
        wheres = {f"sweep.only_if.{key}={conditions.joined(each)}": each for key, each in only_if.items()}
        wheres |= {f"sweep.brings.{conditions.joined(each)}": each for each, _ in brought}
        for where, needed in wheres.items():
            for condition in needed:
                condition.check(where, listed)
        return space

    @property
    def is_finite(self) -> bool:
        """Whether the points can be listed."""
        return all(isinstance(each.domain, Choices) for each in self.dimensions)

    @property
    def size(self) -> float:
        """Points at most; infinite where they cannot be listed."""
        return math.prod(len(each.domain.values) if isinstance(each.domain, Choices) else math.inf for each in self.dimensions)

    def exists(self, dimension: Dimension, point: Point) -> bool:
        """Whether ``dimension`` exists, given the values of those before it."""
        return self._is_at(dimension, {**self.pinned, **{key: text(value) for key, value in point.items()}})

    def holds(self, point: Point) -> bool:
        """Whether each value of ``point`` is one that its dimension has today."""
        lists = {each.key: each.domain.values for each in self.dimensions if isinstance(each.domain, Choices)}
        return all(value in lists.get(key, (value,)) for key, value in point.items())

    def _is_at(self, dimension: Dimension, values: Mapping[str, str]) -> bool:
        return conditions.hold(dimension.only_if, values)

    def points(self) -> Iterator[Point]:
        """Every point of a finite space, in the order written (the last dimension fastest), each once."""
        seen: set[tuple[tuple[str, str], ...]] = set()
        for values in itertools.product(*(each.domain.values for each in self.dimensions if isinstance(each.domain, Choices))):
            point: Point = {}
            for dimension, value in zip(self.dimensions, values, strict=True):
                if self.exists(dimension, point):
                    point[dimension.key] = value
            name = tuple((key, text(value)) for key, value in point.items())
            if name not in seen:
                seen.add(name)
                yield point

    def corners(self) -> Iterator[Point]:
        """Points at the ends of the dimensions: all at their first value, all at their last, and each one between."""
        ends = [
            (each.domain.values[0], each.domain.values[-1])
            if isinstance(each.domain, Choices)
            else (
                (int if each.domain.whole else float)(each.domain.low),
                (int if each.domain.whole else float)(each.domain.high),
            )
            for each in self.dimensions
        ]
        for turned in (set(), {*range(len(ends))}, *({index} for index in range(len(ends)))):
            point: Point = {}
            for index, dimension in enumerate(self.dimensions):
                if self.exists(dimension, point):
                    point[dimension.key] = ends[index][index in turned]
            yield point

    def overrides(self, point: Point) -> list[str]:
        """What composes ``point``: what its values bring along, then what was written for all, then its values.

        A value brings nothing along for a key that was written or is a dimension.
        """
        values = {**self.pinned, **{key: text(value) for key, value in point.items()}}
        holding = [overrides for needed, overrides in self.brought if conditions.hold(needed, values)]
        brought = [override for overrides in holding for override in overrides]
        # a point of before may not have a dimension of today
        there = [each for each in self.dimensions if each.key in point and self._is_at(each, values)]
        chosen = [each.override(point[each.key]) for each in there]
        return [*brought, *self.fixed, *chosen]

    def _check(self, only_if: Mapping[str, Conditions]) -> None:
        own = [each.key for each in self.dimensions if not each.brought_by]
        for key, needed in only_if.items():
            before = {*self.pinned, *own[: own.index(key)]} if key in own else None
            for condition in needed:
                if before is not None and condition.key not in before:
                    raise Fault(
                        f"sweep.only_if.{key}: asks for {condition.key}, which is no dimension before it; "
                        f"write {condition.key} into sweep.space above {key}, or give it one value"
                    )
        if repeated := sorted({key for key in own if own.count(key) > 1}):
            raise Fault(f"{repeated[0]}: is swept twice; write it once")


def text(value: Any) -> str:
    """A value as it is written on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def axis(override: Override) -> str:
    """The key of an override; of a data set that is added to a mix, with its place."""
    return f"{override.key_or_group}@{override.package}" if override.package else override.key_or_group


def _dimension(override: Override, only_if: Conditions) -> Dimension:
    key, sweep = axis(override), override._value
    domain: Choices | Interval
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None and sweep.end is not None
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        if not low < high or (log and low <= 0):
            rule = "its ends must be above 0 and in order" if log else "its first end must be below its second"
            raise Fault(f"{override.input_line}: {rule}")
        domain = Interval(low, high, log, isinstance(low, int) and isinstance(high, int))
    elif isinstance(sweep, ChoiceSweep | RangeSweep) or override.is_discrete_sweep():
        values = tuple(_plain(value) for value in override.sweep_string_iterator())
        even = isinstance(sweep, RangeSweep) and not sweep.shuffle and len(values) > 1
        domain = Choices(values, float(sweep.step) if even and isinstance(sweep, RangeSweep) and sweep.step > 0 else None)
    else:
        raise Fault(f"{override.input_line}: not a space; use choice(...), range(...) or interval(...)")
    return Dimension(key, override.get_key_element(), domain, only_if)


def _listed(written: Sequence[Override], parsed: Sequence[Override]) -> dict[str, list[str]]:
    """Values of the dimensions that are ``written`` in `sweep.space`, there and where ``parsed`` ones take their places; not of
    intervals."""
    found: dict[str, list[str]] = {axis(each): [] for each in written}
    for each in (each for each in (*written, *parsed) if axis(each) in found):
        domain = _dimension(each, ()).domain if each.is_sweep_override() else Choices((each.value(),))
        if isinstance(domain, Choices):
            found[axis(each)] += [text(value) for value in domain.values if text(value) not in found[axis(each)]]
        else:
            del found[axis(each)]
    return found


def _plain(written: str) -> Any:
    """The value of one choice; text where it is neither a number, a truth value nor null."""
    value = OverridesParser.create().parse_override(f"key={written}").value()
    plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and abs(value) < float("inf"))
    return value if plain else written


def quoted(value: Any) -> str:
    """As ``text``, in quotes where Hydra would read something else without them; also of a list or a mapping."""
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{quoted(each)}" for key, each in value.items()) + "}"
    if not isinstance(value, str) or re.fullmatch(r"\[.*\]|\{.*\}", value):
        return text(value)
    try:
        if OverridesParser.create().parse_override(f"key={value}").value() == value:
            return value
    except HydraException:
        pass
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _texts(written: DictConfig) -> dict[str, str]:
    return {str(key): str(value) for key, value in written.items()}
