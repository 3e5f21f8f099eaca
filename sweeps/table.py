"""The rows of a study: ``trials.csv``, one row a cell."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.result import Result, Status
from rlhf.sealed import write_atomically
from sweeps.cells import OF_THE_STUDY
from sweeps.goal import Goal
from sweeps.record import Entry
from sweeps.space import text

BEFORE_METRICS = ("status", "reason", "message", "objective")
AFTER_METRICS = ("seconds", "peak_memory_gib", "cost_usd", "run_folder")
OF_SEEDS = ("seconds_of_all_seeds", "peak_memory_gib", "cost_usd_of_all_seeds")
"""The first of them where a trial is the mean of several runs: sums, and the largest peak."""
RUN_OF_SEED = "run_folder_of_seed_"
"""How the column of a run begins there; its seed follows."""


@dataclass(frozen=True)
class Ended:
    """A trial that ended."""

    entry: Entry
    result: Result
    runs: Mapping[int, str] = field(default_factory=dict)
    """The folders of its runs by seed, if it has several."""


def write(path: Path, ended: Sequence[Ended], goal: Goal, several: bool = False) -> list[dict[str, str]]:
    """Replace ``trials.csv`` in one step and return the rows as it holds them.

    Columns: number, swept keys and settings that differ between cells, how it ended, all metrics, what it took, and the
    folder of its run; where trials have ``several`` seeds, of each of them.
    """
    entries = [each.entry for each in ended]
    rows = [_row(each, goal, several) for each in ended]
    shown = differing(entries)
    seeds = sorted({seed for each in ended for seed in (each.runs or [each.result.seed])}) if several else []
    after = [*OF_SEEDS, *(f"{RUN_OF_SEED}{seed}" for seed in seeds)] if several else [*AFTER_METRICS]
    fixed = {"number", *BEFORE_METRICS, *after, *(key for entry in entries for key in settings(entry))}
    metrics = sorted({name for cells in rows for name in cells} - fixed)
    columns = ["number", *shown, *BEFORE_METRICS, *metrics, *after]
    written = [{column: cells.get(column, "") for column in columns} for cells in rows]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(written)
    write_atomically(path, buffer.getvalue())
    return written


def _row(ended: Ended, goal: Goal, several: bool) -> dict[str, str]:
    """The cell, how it ended, its metrics and what it took."""
    entry, result = ended.entry, ended.result
    values = goal.values(result)
    broken = goal.broken(result) if result.status is Status.finished else []
    message = "; ".join(filter(None, (result.message, *(f"not {each}" for each in broken))))
    took = f"{result.seconds:.1f}", _number(result.peak_memory_gib), _number(result.cost_usd)
    cells = {
        "number": f"{entry.number:04d}",
        "status": entry.status,
        "reason": entry.reason,
        "message": _plain(message),
        "objective": "" if values is None else " ".join(map(_number, values)),
        **{name: _number(metric) for name, metric in result.metrics.items()},
    }
    if several:
        cells |= dict(zip(OF_SEEDS, took, strict=True))
        cells |= {f"{RUN_OF_SEED}{seed}": folder for seed, folder in (ended.runs or {result.seed: result.folder}).items()}
    else:
        cells |= dict(zip(AFTER_METRICS, (*took, result.folder), strict=True))
    return {**settings(entry), **cells}


def settings(entry: Entry) -> dict[str, str]:
    """The fixed and the swept settings of a cell, as text."""
    pairs = (override.partition("=") for override in entry.overrides)
    fixed = {key: value for key, _, value in pairs if re.split(r"[./@]", key)[0] not in OF_THE_STUDY}
    return {**fixed, **{key: text(value) for key, value in entry.point.items()}}


def differing(entries: list[Entry]) -> list[str]:
    """The settings to show: those swept over in any cell, then fixed ones that are not the same in all cells."""
    everything = [settings(entry) for entry in entries]
    swept = dict.fromkeys(key for entry in entries for key in entry.point)
    fixed = dict.fromkeys(key for each in everything for key in each)
    return [*swept, *(key for key in fixed if key not in swept and len({each.get(key) for each in everything}) > 1)]


def _number(value: Any) -> str:
    return "" if value is None else repr(float(value))


def _plain(message: str) -> str:
    """The first line without control characters, and harmless to a spreadsheet that takes a leading = + - @ for a formula."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", (message.splitlines() or [""])[0])
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line
