"""Learning curves of trials: what ``metrics.jsonl`` says of each evaluation, and how much had been trained by then."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.config import Resource
from rlhf.report import folder

FROM_TRAINING = ("loss", "perf/tokens_per_second", "mem/peak_gib")
"""Metrics of a result that rows of training hold."""
SECONDS = "time/seconds"


@dataclass(frozen=True)
class Point:
    """An evaluation after ``round`` rounds and ``tokens`` trained tokens."""

    round: int
    tokens: float
    values: Mapping[str, float]

    def amount(self, resource: Resource) -> float:
        """How much had been trained."""
        return self.tokens if resource is Resource.tokens else self.round


Curve = list[Point]
"""The evaluations of one run in order, without that before the first round."""


def read(run: Path) -> Curve:
    """The curve of the run in ``run``; empty while it has none. A row torn by a kill is passed over."""
    return of_rows(folder.rows(run / "metrics.jsonl"))


def of_rows(rows: Iterable[folder.Row]) -> Curve:
    """The curve in the rows of a record."""
    rows, points = list(rows), dict[int, Point]()
    trained: dict[str, float] = {}
    tokens_of_a_round = _first_pace(rows)  # evaluations may come before the first row of training
    for row in rows:
        if not isinstance(row.get("round"), int) or row["round"] == 0:
            continue
        values = {name: value for name, value in ((name, _number(each)) for name, each in row.items()) if value is not None}
        if row.get("kind") == "train":
            trained = {name: values[name] for name in FROM_TRAINING if name in values}
            tokens_of_a_round = values.get("progress/tokens", 0.0) / row["round"]
        elif row.get("kind") == "eval":
            # the first one of a round: a run that goes back to its best weights evaluates those at the end as well
            held_out = {name: value for name, value in values.items() if "/" in name}
            measured = {**trained, **held_out, SECONDS: values.get("seconds", 0.0)}
            points.setdefault(row["round"], Point(row["round"], tokens_of_a_round * row["round"], measured))
    return [points[round_] for round_ in sorted(points)]


def _first_pace(rows: Iterable[folder.Row]) -> float:
    """Trained tokens a round up to the first row that knows them; 0 while there is none."""
    known = ((_number(row.get("progress/tokens")), row.get("round")) for row in rows if row.get("kind") == "train")
    return next((tokens / round_ for tokens, round_ in known if tokens is not None and isinstance(round_, int) and round_), 0.0)


class Curves:
    """Reads curves, and each file again only when it has grown."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], Curve]] = {}

    def of(self, run: Path) -> Curve:
        """The curve of the run in ``run``."""
        try:
            about = (run / "metrics.jsonl").stat()
        except OSError:
            return []
        state = about.st_size, about.st_mtime_ns
        if run not in self._known or self._known[run][0] != state:
            self._known[run] = state, read(run)
        return self._known[run][1]


def _number(value: Any) -> float | None:
    """A number of a row; those that are not finite are written as strings."""
    if isinstance(value, str):
        return float(value) if value in ("nan", "inf", "-inf") else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
