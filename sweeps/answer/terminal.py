"""The answer of a study on a terminal."""

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from rlhf.report.paper import short
from rlhf.visible import visible
from sweeps import screening
from sweeps.answer import standing, words
from sweeps.answer.effects import effects
from sweeps.answer.folder import PACE, Study, Trial, shown
from sweeps.answer.importance import Importance
from sweeps.answer.standing import Standing
from sweeps.record import RUNNING

PLAIN_WIDTH = 160
MOST_KEYS = 6
"""Settings that have columns of their own."""
ROWS, FRONT = 30, 8
"""Trials and points of the front that are shown; the page has all."""
MESSAGE_WIDTH = 48
STYLES = {"finished": "green", "failed": "red", "infeasible": "yellow", "stopped": "cyan", "lost": "red", RUNNING: "blue"}
COLUMNS = {
    PACE: "s/step",
    "perf/tokens_per_second": "tokens/s",
    "mem/peak_gib": "GiB",
    "time/seconds": "s",
    "cost/usd": "$",
}


def console() -> Console:
    """That of this terminal; wide where there is none."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def view(study: Study, importances: Sequence[Importance], rows: int = ROWS) -> RenderableType:
    """All of it, with at most so many ``rows`` of trials."""
    found = standing.of(study)
    parts: list[RenderableType] = [_line(words.head(study, found), "bold"), _line(words.bill(study))]
    parts += map(_line, _answer(study, found))
    if parents := words.parents_at_work(study):
        parts.append(_line(f"parents at work: {', '.join(parents)}"))
    parts.append(cells(study, found, rows))
    if len(found.axes) > 1 and len(found.front) > 1:
        parts += [_line(f"Pareto front: {' × '.join(each.metric for each in found.axes)}", "bold"), _front(found)]
    parts += map(_line, _effects(study))
    parts += map(_line, _importances(importances))
    if found.failures:
        parts.append(_line("What went wrong", "bold"))
        parts += map(_line, _failures(found))
    return Group(*parts)


def cells(study: Study, found: Standing, rows: int = ROWS) -> RenderableType:
    """The trials, the best first, and what is left out."""
    table = Table(title=Text(study.path.name), title_justify="left", box=box.SIMPLE)
    metrics = [each.metric for each in study.goal.objectives]
    others = [name for name in COLUMNS if name not in metrics and any(name in each.measured for each in study.trials)]
    table.add_column("")
    keys = list(study.trials[0].settings) if study.trials else []
    if len(keys) <= MOST_KEYS:
        for key in keys:
            table.add_column(Text(visible(key)), justify="right")
    else:
        table.add_column("settings", overflow="fold")
    table.add_column("status")
    for title in [*metrics, *(words.heading(study, COLUMNS, name) for name in others)]:
        table.add_column(Text(visible(title)), justify="right", no_wrap=True)
    table.add_column("message", max_width=MESSAGE_WIDTH, no_wrap=True)
    for each in found.ranked[:rows]:
        status = Text(visible(standing.how(each)), STYLES.get(each.entry.status, ""))
        last = " when pruned" if each.is_cut_short else ""
        values = [*(_with_interval(each, name, last) for name in metrics), *(_measured(each, name) for name in others)]
        said = "; ".join(filter(None, (words.doing(each, study), each.message, *(f"not {rule}" for rule in each.broken))))
        settings = (
            [shown(value) for value in each.settings.values()] if len(keys) <= MOST_KEYS else [_all_settings(each, study)]
        )
        message = Text(visible(said), overflow="ellipsis")
        table.add_row(f"{each.number:04d}", *map(_text, settings), status, *map(_text, values), message)
    left = len(found.ranked) - rows
    return Group(table, _line(f"and {left} more, in report.html and trials.csv")) if left > 0 else table


def _answer(study: Study, found: Standing) -> Iterator[str]:
    best = found.best
    if best is None:
        yield words.none_yet(study)
        return
    if len(study.goal.objectives) > 1:
        yield f"nothing is better in every respect than {words.numbers(found.leaders)}; the first of them:"
    for each in study.goal.objectives:
        spread = standing.spread(best, each.metric)
        ends = f" (95 % {short(spread.low)} to {short(spread.high)}, over {spread.over})" if spread else ""
        yield f"best {each.metric}: {short(best.measured[each.metric])}{ends} in {best.number:04d}: {best.label}"
    for command in standing.commands(best):
        yield f"run it again: {command}"
    if likeness := words.likeness(study, found):
        yield likeness
    if study.about["mode"] == "characterize":
        for title, axis, trial in found.champions:
            yield f"{title}: {trial.number:04d} with {axis.metric} {short(trial.measured[axis.metric])}: {trial.label}"
    if before := words.of_before(study, found):
        yield before


def _front(found: Standing) -> RenderableType:
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for axis in found.axes:
        table.add_column(Text(visible(axis.metric)), justify="right")
    table.add_column("settings", overflow="fold")
    for each in found.front[:FRONT]:
        values = [_measured(each, axis.metric) for axis in found.axes]
        label = f"{each.label} (times of before)" if each.is_reused else each.label
        table.add_row(f"{each.number:04d}", *map(_text, values), _text(label))
    left = len(found.front) - FRONT
    return Group(table, _line(f"and {left} more, in report.html")) if left > 0 else table


def _effects(study: Study) -> Iterator[str]:
    found, missing = effects(study)
    if missing:
        yield missing
    yield from (f"effect of {screening.line(each)}" for each in found)
    if found and found[0].ends is None:
        yield screening.UNTOLD


def _importances(found: Sequence[Importance]) -> Iterator[str]:
    for each in found:
        if each.shares:
            shares = ", ".join(f"{key} {100 * share:.0f} %" for key, share in each.shares)
            yield f"importance for {each.objective.metric} ({each.note}): {shares}"
        else:
            yield f"importance for {each.objective.metric}: not told, {each.note}"


def _failures(found: Standing) -> Iterator[str]:
    for each in found.failures:
        reason = f" ({each.reason})" if each.reason else ""
        said = f": {each.message}" if each.message else ""
        log = f"; {each.log}" if each.log.is_file() else ""
        yield f"  {len(each.names)} {each.status}{reason}: {words.names(each.names)}{said}{log}"


def _all_settings(trial: Trial, study: Study) -> str:
    return trial.label.replace(f"{study.about['stage']}.", "")


def _with_interval(trial: Trial, metric: str, when: str) -> str:
    """An objective, of a trial under several seeds with its interval over them."""
    spread = standing.spread(trial, metric) if len(trial.seeds) > 1 and not when else None
    said = _measured(trial, metric, when)
    return f"{said} {words.ends(trial.measured[metric], spread)}" if spread is not None and said else said


def _measured(trial: Trial, name: str, when: str = "") -> str:
    return f"{short(trial.measured[name])}{when}" if name in trial.measured else ""


def _line(said: str, style: str = "") -> Text:
    return Text(visible(said), style)


def _text(said: str) -> Text:
    return Text(visible(said))
