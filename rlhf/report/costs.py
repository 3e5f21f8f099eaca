"""Where the time and the memory of a run went, by phase."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlhf.report.curves import number
from rlhf.report.folder import Row

PHASES = ("rollout", "score", "train", "evaluate")
"""Phases with rows of their own in the record; `setup` has memory only, its time is before the first row."""
OTHER = "other"
"""Loading, building, saving: the run's time that is in no row."""


@dataclass(frozen=True)
class Phase:
    """One part of a run."""

    name: str
    seconds: float
    share: float
    """Of the run's time."""
    memory_gib: float | None


def phases(rows: Sequence[Row], total: float | None) -> list[Phase]:
    """The phases that took time, and what of ``total`` seconds is in none of them."""
    seconds = {name: sum(number(row.get(f"time/{name}_s", 0.0)) for row in rows) for name in PHASES}
    counted = sum(seconds.values())
    if not (total or counted):
        return []
    whole = max(total or 0.0, counted, 1e-9)
    return list(_measured(rows, {**seconds, OTHER: whole - counted}, whole))


def _measured(rows: Sequence[Row], seconds: dict[str, float], whole: float) -> Iterator[Phase]:
    for name, spent in seconds.items():
        key = f"mem/{'setup' if name == OTHER else name}_gib"
        peaks = [number(row[key]) for row in rows if key in row]
        if spent > 0:
            yield Phase(name, spent, spent / whole, max(peaks, default=None))
