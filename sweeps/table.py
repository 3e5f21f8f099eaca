"""The rows of a study: ``trials.csv``, one row a cell, and the table that the verb ``study DIR`` prints from it."""

import csv
import io
import re
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlhf.command_line import EXIT_OK, report_faults
from rlhf.result import Result, Status
from rlhf.sealed import write_atomically
from sweeps.cells import OF_THE_STUDY
from sweeps.goal import Goal
from sweeps.record import Entry
from sweeps.space import text

BEFORE_METRICS = ("status", "reason", "message", "objective")
AFTER_METRICS = ("seconds", "peak_memory_gib", "cost_usd", "run_folder")
SHOWN = {"seconds": "s", "peak_memory_gib": "GiB", "cost_usd": "$"}
STYLES = {"finished": "green", "failed": "red", "infeasible": "yellow", "stopped": "cyan", "lost": "red"}
PLAIN_WIDTH, MESSAGE_WIDTH = 160, 48


def main(arguments: list[str]) -> int:
    """Serve ``python -m rlhf study DIR``."""
    if len(arguments) != 1:
        return report_faults(["study: takes one folder; write python -m rlhf study outputs/studies/<name>"])
    folder = Path(arguments[0])
    path = folder / "trials.csv"
    if not path.is_file():
        here = sorted(str(row.parent) for row in [*folder.glob("*/trials.csv"), *folder.glob("studies/*/trials.csv")])
        hint = f"; studies there: {', '.join(here)}" if here else "; it is written when the first trial of a study ends"
        return report_faults([f"study {folder}: has no trials.csv{hint}"])
    with path.open(newline="") as content:
        rows = list(csv.DictReader(content))
    show(rows, folder.name)
    print(f"all metrics: {path}")
    return EXIT_OK


def write(path: Path, ended: list[tuple[Entry, Result]], goal: Goal) -> list[dict[str, str]]:
    """Replace ``trials.csv`` in one step and return the rows as it holds them.

    Columns: number, swept keys and settings that differ between cells, how it ended, all metrics, what it took.
    """
    entries = [entry for entry, _ in ended]
    rows = [_row(entry, result, goal) for entry, result in ended]
    settings = _differing(entries)
    fixed = {"number", *BEFORE_METRICS, *AFTER_METRICS, *(key for entry in entries for key in _settings(entry))}
    metrics = sorted({name for cells in rows for name in cells} - fixed)
    columns = ["number", *settings, *BEFORE_METRICS, *metrics, *AFTER_METRICS]
    written = [{column: cells.get(column, "") for column in columns} for cells in rows]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(written)
    write_atomically(path, buffer.getvalue())
    return written


def _row(entry: Entry, result: Result, goal: Goal) -> dict[str, str]:
    """The cell, how it ended, its metrics and what it took."""
    values = goal.values(result)
    broken = goal.broken(result) if result.status is Status.finished else []
    message = "; ".join(filter(None, (result.message, *(f"not {each}" for each in broken))))
    cells = {
        "number": f"{entry.number:04d}",
        "status": entry.status,
        "reason": entry.reason,
        "message": _plain(message),
        "objective": "" if values is None else " ".join(map(_number, values)),
        **{name: _number(metric) for name, metric in result.metrics.items()},
        "seconds": f"{result.seconds:.1f}",
        "peak_memory_gib": _number(result.peak_memory_gib),
        "cost_usd": _number(result.cost_usd),
        "run_folder": result.folder,
    }
    return {**_settings(entry), **cells}


def show(rows: list[dict[str, str]], title: str) -> None:
    """Print the rows as a table, without the metrics, which are many."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    columns = list(rows[0]) if rows else ["number", *BEFORE_METRICS, *AFTER_METRICS]
    settings = columns[1 : columns.index("status")]
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE)
    table.add_column("")
    for key in settings:
        table.add_column(Text(key), justify="right")
    table.add_column("status")
    for name in ("objective", *SHOWN.values()):
        table.add_column(Text(name), justify="right")
    table.add_column("message", max_width=MESSAGE_WIDTH, no_wrap=True)
    for cells in rows:
        status = Text("/".join(part for part in (cells["status"], cells["reason"]) if part), STYLES.get(cells["status"], ""))
        shown = [_short(cells["objective"]), *(_short(cells[name]) for name in SHOWN)]
        values = [cells["number"], *(cells[key] for key in settings)]
        table.add_row(*map(Text, values), status, *map(Text, shown), Text(_plain(cells["message"]), overflow="ellipsis"))
    console.print(table)


def _settings(entry: Entry) -> dict[str, str]:
    pairs = (override.partition("=") for override in entry.overrides)
    fixed = {key: value for key, _, value in pairs if re.split(r"[./@]", key)[0] not in OF_THE_STUDY}
    return {**fixed, **{key: text(value) for key, value in entry.point.items()}}


def _differing(entries: list[Entry]) -> list[str]:
    """The settings to show: those swept over in any cell, then fixed ones that are not the same in all cells."""
    all_settings = [_settings(entry) for entry in entries]
    swept = dict.fromkeys(key for entry in entries for key in entry.point)
    fixed = dict.fromkeys(key for settings in all_settings for key in settings)
    return [*swept, *(key for key in fixed if key not in swept and len({settings.get(key) for settings in all_settings}) > 1)]


def _number(value: Any) -> str:
    return "" if value is None else repr(float(value))


def _short(number: str) -> str:
    return " ".join(f"{float(each):.4g}" for each in number.split())


def _plain(message: str) -> str:
    """The first line without control characters, and harmless to a spreadsheet that takes a leading = + - @ for a formula."""
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "", (message.splitlines() or [""])[0])
    return f"'{line}" if line[:1] in ("=", "+", "-", "@") else line
