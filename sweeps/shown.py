"""What a tracker is told of a study when it ends or stops: its tables, its best trial, and how that came about."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from rlhf.config import Run, TrackerKind
from rlhf.tracking.about import SWEPT, TRIAL, OfStudy, column, swept
from rlhf.tracking.tracker import show_study
from sweeps import frame, logbook, progress
from sweeps.goal import measurements
from sweeps.screening import Effect
from sweeps.space import Space, text
from sweeps.table import BEFORE_METRICS, RUN_OF_SEED
from sweeps.trials import Trials

TEXTS = ("number", "run_folder", *BEFORE_METRICS)
"""Columns of ``trials.csv`` that are no numbers, also where they look like some."""


def show(run: Run, trials: Trials, space: Space, effects: list[Effect], rows: list[dict[str, str]], left: int) -> None:
    """Show the study that began as ``run`` and whose ``trials.csv`` has ``rows``; ``left`` trials were kept from running."""
    if run.tracker.kind is not TrackerKind.none and rows:
        show_study(run.tracker, about(run, trials, space, effects, rows, left))


def about(run: Run, trials: Trials, space: Space, effects: list[Effect], rows: list[dict[str, str]], left: int) -> OfStudy:
    """The study as a tracker is told of it; ``effects`` are those of a screening."""
    name = trials.folder.name
    config = frame.frame(space, trials.goal, run)
    tables = {
        "trials": [{key: _cell(key, value) for key, value in row.items()} for row in rows],
        "front": _front(trials) if len(trials.goal.objectives) > 1 else [],
        "effects": [
            {"key": each.key, "from": text(each.values[0]), "to": text(each.values[1])}
            | {"effect": each.effect, **dict(zip(("low", "high"), each.ends or (None, None), strict=True))}
            for each in effects
        ],
    }
    return OfStudy(
        folder=trials.folder,
        id=f"study-{name}-{_begun(trials):x}".replace(".", "_"),
        name=name,
        stage=run.stage,
        group=run.tracker.group or name,
        goal=str(trials.goal),
        metrics=[each.metric for each in trials.goal.objectives],
        swept=[column(each) for each in config["space"]],
        config=config | {"model": run.model.name, "space": {column(key): each for key, each in config["space"].items()}},
        rows=list(_rows(trials)),
        summary=_summary(trials, left),
        tables={name: table for name, table in tables.items() if table},
    )


def _begun(trials: Trials) -> int:
    """When the study was begun, in seconds since 1970: the same in all its sessions."""
    return int(logbook.read(trials.folder)["sessions"][0]["began"])


def _rows(trials: Trials) -> Iterator[dict[str, float]]:
    """A row a trial: its objectives, and where there is one objective the best so far."""
    good = {entry.number: values for values, entry, _ in progress.judged(trials)}
    best: dict[str, float] = {}
    for entry, result in trials.ended():
        measured, row = measurements(result), {TRIAL: float(entry.number)}
        for objective in trials.goal.objectives:
            value = measured.get(objective.metric, math.nan)
            if math.isfinite(value):
                row[f"trials/{objective.metric}"] = value
            if entry.number in good and len(trials.goal.objectives) == 1:
                (ranked_by,) = good[entry.number]
                known = best.get(objective.metric, ranked_by)
                better = min if objective.direction == "minimize" else max
                best[objective.metric] = better(known, ranked_by)
        yield row | {f"best/{metric}": value for metric, value in best.items()}


def _summary(trials: Trials, left: int) -> dict[str, Any]:
    """How many trials ended how, and the best one, where there is one objective."""
    ends = Counter(entry.status for entry, _ in trials.ended())
    found: dict[str, Any] = {f"trials/{status}": count for status, count in ends.items()}
    found |= {"trials/ended": ends.total(), "status": "stopped" if left else "finished"}
    best = progress.front(trials.goal, progress.judged(trials))
    if len(trials.goal.objectives) == 1 and best:
        values, entry, _ = best[0]
        found |= {f"best/{trials.goal.objectives[0].metric}": values[0], f"best/{TRIAL}": entry.number}
        point = swept({key: text(value) for key, value in entry.point.items()})
        found |= {f"best/{SWEPT}/{key}": value for key, value in point.items()}
    return found


def _front(trials: Trials) -> list[dict[str, Any]]:
    """The trials that nothing dominates, with their objectives."""
    metrics = [each.metric for each in trials.goal.objectives]
    found = progress.front(trials.goal, progress.judged(trials))
    keys = dict.fromkeys(key for _, entry, _ in found for key in entry.point)
    return [
        {TRIAL: entry.number, **dict(zip(metrics, values, strict=True))}
        | {key: text(entry.point[key]) if key in entry.point else None for key in keys}
        for values, entry, _ in found
    ]


def _cell(key: str, written: str) -> str | float | None:
    if key in TEXTS or key.startswith(RUN_OF_SEED) or written == "":
        return written or None
    try:
        return float(written)
    except ValueError:
        return written
