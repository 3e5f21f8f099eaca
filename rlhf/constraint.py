"""What makes a result one that counts, and one better than another: constraints on its metrics, and dominance."""

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.fault import Fault

COMPARE = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}


@dataclass(frozen=True)
class Constraint:
    """`metric <= bound`, or another comparison."""

    metric: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, written: str) -> "Constraint":
        """Read it.

        Raises:
            Fault: it is not written so.
        """
        found = re.fullmatch(r"\s*([\w/@.]+)\s*(<=|>=|<|>)\s*(\S+)\s*", written)
        try:
            bound = float(found[3]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound):
            rule = "write a metric, one of <= < >= >, and a finite number, as in \"sweep.constraints=['mem/peak_gib <= 40']\""
            raise Fault(f"sweep.constraints: {written}: {rule}")
        return cls(found[1], found[2], bound)

    def excess(self, values: Mapping[str, float]) -> float | None:
        """By how much it is violated: above 0 if it is; None where the metric was not measured."""
        value = values.get(self.metric)
        if value is None or math.isnan(value):
            return None
        distance = value - self.bound if self.sign.startswith("<") else self.bound - value
        return distance if COMPARE[self.sign](value, self.bound) is (distance <= 0) else 1e-12  # on a strict bound

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"


def dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Whether ``first`` is nowhere worse than ``second`` and somewhere better; of each value less is better."""
    return all(a <= b for a, b in zip(first, second, strict=True)) and first != second
