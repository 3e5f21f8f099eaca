"""Conditions on the points of a space: which values other dimensions, or keys with one value, have there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any

from rlhf import composing, manual
from rlhf.explain import keys
from rlhf.fault import Fault
from rlhf.mistyped import near_option


@dataclass(frozen=True)
class Condition:
    """`key=a,b` or `key!=a`: whether another dimension has, or has not, one of some values."""

    key: str
    values: tuple[str, ...]
    negated: bool

    @classmethod
    def parse(cls, where: str, written: str) -> "Condition":
        """Read it.

        Raises:
            Fault: it is not written so; names ``where`` it stands.
        """
        found = re.fullmatch(r"\s*([^=!\s]+)\s*(!?=)(?!=)\s*(.+?)\s*", written)
        if not found:
            raise Fault(f"{where}={written}: not a condition; write key=value, key=value,value or key!=value")
        return cls(found[1], tuple(value.strip() for value in found[3].split(",")), found[2] == "!=")

    def __str__(self) -> str:
        return f"{self.key}{'!=' if self.negated else '='}{','.join(self.values)}"

    def holds(self, values: Mapping[str, str]) -> bool:
        """Whether it holds at a point, given as text; not where the dimension itself does not exist."""
        return self.key in values and any(_is_same(values[self.key], each) for each in self.values) is not self.negated

    def check(self, where: str, listed: Mapping[str, Sequence[str]]) -> None:
        """See that its key can have these values: one of those ``listed`` for it, or else one that the schema allows.

        Raises:
            Fault: it cannot, so that the condition would hold nowhere, or everywhere, without a word.
        """
        known, numbers = ([*listed[self.key]], False) if self.key in listed else _allowed(self.key)
        for value in self.values if known or numbers else ():
            if not any(_is_same(value, each) for each in known) and not (numbers and _number(value) is not None):
                told = f"; write {' or '.join(['a number', *known])}" if numbers else near_option(value, known)
                raise Fault(f"{where}: {self.key} is never {value}{told}")


Conditions = tuple[Condition, ...]
"""All of them have to hold."""


def parse(where: str, written: str) -> Conditions:
    """Conditions joined by `and`.

    Raises:
        Fault: one is not written as it should be; names ``where`` they stand.
    """
    return tuple(Condition.parse(where, each) for each in re.split(r"\s+and\s+", written, flags=re.IGNORECASE))


def joined(conditions: Conditions) -> str:
    """As they are written."""
    return " and ".join(map(str, conditions))


def hold(conditions: Conditions, values: Mapping[str, str]) -> bool:
    """Whether all of them hold."""
    return all(each.holds(values) for each in conditions)


def _allowed(key: str) -> tuple[list[str], bool]:
    """What the schema lets a key be: these values, and whether numbers; neither where it may be anything."""
    group = key.partition("@")[0]
    if composing.is_group(group):
        return [*composing.options(group)], False
    kinds: set[Any] = {part for found in keys.find(key) if found.about(key) for part in manual.parts(found.kind)}
    known: list[str] = []
    for kind in kinds:
        if kind is NoneType:
            known.append("null")
        elif kind is bool:
            known += ["true", "false"]
        elif isinstance(kind, type) and issubclass(kind, Enum):
            known += kind.__members__
    return ([], False) if kinds & {str, list, dict} else (known, bool(kinds & {int, float}))


def _is_same(one: str, other: str) -> bool:
    """Whether two values are one, as 1e-3 and 0.001 are."""
    return one == other or ((number := _number(one)) is not None and number == _number(other))


def _number(written: str) -> float | None:
    try:
        return float(written)
    except ValueError:
        return None
