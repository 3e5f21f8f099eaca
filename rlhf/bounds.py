"""The numbers a field may hold, declared beside its type in ``rlhf.config`` and checked here for all fields alike."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Bounds:
    """A range of finite numbers; nothing given: all of them."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False
    """Infinity too."""

    def __str__(self) -> str:
        """The range in words, as `at least 0 and below 1`; empty where it has no end."""
        ends = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        return " and ".join(f"{word} {end}" for word, end in ends if end is not None)

    def hold(self, value: float) -> bool:
        """Whether ``value`` is in the range; what is no number is in none."""
        return (
            (math.isfinite(value) or (self.infinite and value == math.inf))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


def faults(config: Any, prefix: str = "") -> Iterator[str]:
    """A line for each number of ``config``, and of what is in it, that is out of its field's range."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from faults(value, f"{key}.")
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                if dataclasses.is_dataclass(inner):
                    yield from faults(inner, f"{key}.{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            bounds: Bounds = field.metadata["bounds"]
            if not bounds.hold(value):
                null = ", or null" if type(None) in getattr(field.type, "__args__", ()) else ""
                finite = "" if math.isfinite(value) or bounds.infinite else "a finite number" + " " * bool(str(bounds))
                yield f"{key}={value}: must be {finite}{bounds}{null}"
