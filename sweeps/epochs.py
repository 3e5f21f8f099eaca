"""Whether more epochs help: what each pass over the data did to the measurements of one run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from rlhf import followed
from rlhf.config import Goal
from rlhf.report import folder, paper
from sweeps.answer import terminal

EPOCH = "progress/epoch"
SHOWN = {
    "eval/perplexity": "perplexity",
    "eval/accuracy": "accuracy",
    "response/repetition": "repetition",
    "response/distinct_2": "distinct-2",
    "response/length_mean": "length",
    "eval/score_mean": "reward",
    "reward/gold_mean": "gold reward",
}
"""Measurements and what the table calls them."""
FEWEST = 3
"""Evaluations that make a table: before, on the way, and at the end."""


@dataclass(frozen=True)
class Passed:
    """An evaluation after ``epoch`` passes over the training data."""

    epoch: float
    values: Mapping[str, float]


def passes(run: Path) -> list[Passed]:
    """The evaluations of the run in ``run`` by epoch, that before the first round included; each epoch's first one."""
    found: dict[float, Passed] = {}
    for row in folder.rows(run / "metrics.jsonl"):
        if row.get("kind") == "eval" and EPOCH in row:
            values = {name: float(row[name]) for name in SHOWN if isinstance(row.get(name), int | float)}
            found.setdefault(row[EPOCH], Passed(row[EPOCH], values))
    return [found[epoch] for epoch in sorted(found)]


def best(evaluated: list[Passed], stage: str) -> dict[str, float]:
    """The epoch at which each measurement of ``stage`` that has a better side was best; the first of equals."""
    found = {}
    for name in SHOWN:
        goal = followed.MEASURED[stage].get(name)
        measured = [(each.values[name], each.epoch) for each in evaluated if name in each.values]
        if goal is not None and measured:
            limit = (min if goal is Goal.minimize else max)(value for value, _ in measured)
            found[name] = next(epoch for value, epoch in measured if value == limit)
    return found


def show(run: Path, stage: str, title: str) -> None:
    """Print the measurements by epoch, each at its best marked, and when that was; nothing of a run with few of them."""
    evaluated = passes(run)
    if len(evaluated) < FEWEST:
        return
    names = [name for name in SHOWN if any(name in each.values for each in evaluated)]
    bests = best(evaluated, stage)
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE)
    for heading in ("epoch", *(SHOWN[name] for name in names)):
        table.add_column(heading, justify="right")
    for each in evaluated:
        cells = [_cell(each.values.get(name), bests.get(name) == each.epoch) for name in names]
        table.add_row(paper.short(round(each.epoch, 2)), *cells)
    console = terminal.console()
    console.print(table)
    told = ", ".join(f"{SHOWN[name]} after {paper.short(round(epoch, 2))}" for name, epoch in bests.items() if name in names)
    console.print(f"best: {told}; of {paper.short(round(evaluated[-1].epoch, 2))} epochs", soft_wrap=True)


def _cell(value: float | None, is_best: bool) -> Text:
    if value is None:
        return Text("")
    return Text(f"{paper.short(value)} *", style="bold") if is_best else Text(f"{paper.short(value)}  ")
