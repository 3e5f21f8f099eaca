"""``python -m rlhf plan [key=value ...]``: what a study, or a run, would start and what that may take. Starts nothing."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import OmegaConf
from rich import box
from rich.table import Table
from rich.text import Text

from launchers.slots import Slots, devices_of
from rlhf import config, idle, preflight
from rlhf.command_line import EXIT_OK, report_faults
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.report.page import clock
from rlhf.report.paper import short
from rlhf.visible import visible
from sweeps import conditions
from sweeps.answer import terminal
from sweeps.answer.folder import shown
from sweeps.cells import Composer, label
from sweeps.foresight import Foreseen
from sweeps.goal import Goal
from sweeps.legal import legal
from sweeps.preview import CANNOT, TO_RUN, Foretold, Preview, preview
from sweeps.space import Choices, Dimension, Space, text

OPTIONS = {"-m", "--multirun"}
"""Taken as understood: several values for a key make a study here."""


def main(arguments: list[str]) -> int:
    """Serve the verb; 0, or 2 for faults, which are those that the command itself would show."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--config-dir", type=Path)
    flags, words = parser.parse_known_args([each for each in arguments if each not in OPTIONS])
    if odd := [each for each in words if each.startswith("--")]:
        return report_faults([f"{each}: plan takes overrides, key=value, and --config-dir" for each in odd])
    config.register()
    checked = preflight.check(words, True, flags.config_dir)
    if checked.faults:
        return report_faults(checked.faults)
    first = OmegaConf.to_object(checked.composed)
    assert isinstance(first, Run)
    for line in idle.settings(first, words, True):
        print(line, file=sys.stderr)
    with preflight.hydra(flags.config_dir):
        try:
            sweep = preflight.sweep_config(words)
            composer = Composer(Space.of(words, sweep))
            grid = legal(composer, words, sweep)
            if grid.faults:
                return report_faults(grid.faults)
            with redirect_stdout(sys.stderr):
                found = preview(composer, grid, words)
        except (Fault, HydraException) as error:
            return report_faults([str(error).strip().splitlines()[0]])
        _print(found)
    return EXIT_OK


def _print(found: Preview) -> None:
    console = terminal.console()
    for line in _head(found):
        console.print(Text(visible(line)))
    if found.is_search:
        console.print(_space(found))
    console.print(_cells(found))
    if found.parents:
        console.print(_parents(found))
    for line in [*_totals(found), "Nothing was started."]:
        console.print(Text(visible(line)))


def _head(found: Preview) -> Iterator[str]:
    run, space = found.run, found.composer.space
    what = f"study {found.folder}, {run.sweep.mode.name}" if space.dimensions else f"one run of stage={run.stage}"
    yield f"{what}: {Goal.of(run)}" if space.dimensions else what
    if found.is_search:
        sweep = run.sweep
        limits = [f"{sweep.trials} trials"] if sweep.trials is not None else []
        limits += [f"{sweep.max_hours:g} hours"] if sweep.max_hours is not None else []
        limits += [f"${sweep.max_usd:g}"] if sweep.max_usd is not None else []
        seeds = f", each under {sweep.seeds} seeds" if sweep.seeds > 1 else ""
        yield f"budget: {' or '.join(limits)}{seeds}, by {sweep.sampler.name} and sweep.pruner={sweep.pruner.name}"


def _space(found: Preview) -> Table:
    table = Table("dimension", "values", "where", title="What is searched", title_justify="left", box=box.SIMPLE)
    for each in found.composer.space.dimensions:
        where = conditions.joined(each.only_if)
        table.add_row(*(Text(visible(cell)) for cell in (each.key, _values(each), where)))
    return table


def _values(dimension: Dimension) -> str:
    domain = dimension.domain
    if isinstance(domain, Choices):
        return ", ".join(map(text, domain.values))
    kind = "whole numbers " if domain.whole else ""
    return f"{kind}{domain.low:g} to {domain.high:g}{', evenly over orders of magnitude' if domain.log else ''}"


def _cells(found: Preview) -> Table:
    """Each cell in its order, and then each combination that breaks a rule."""
    keys = list(dict.fromkeys(each.key for each in found.composer.space.dimensions))
    title = "One of its cells" if found.is_search else "Cells, in the order they begin"
    table = Table(title=title if keys else "", title_justify="left", box=box.SIMPLE)
    table.add_column("", justify="right")
    wide = len(keys) <= terminal.MOST_KEYS
    for name in keys if wide else ["settings"]:
        table.add_column(Text(visible(name)), overflow="fold")
    for name in ("", "runs", "GiB", "s", "$"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=bool(name))
    table.add_column("told from", overflow="fold")
    for at, row in enumerate(found.rows, 1):
        point = row.cell.point
        settings = [shown(text(point[key])) if key in point else "–" for key in keys] if wide else [label(point)]
        state = f"{row.state}: {row.why}" if row.why else row.state
        cells = [str(at), *settings, state, str(row.runs or ""), *_figures(row)]
        table.add_row(*(Text(visible(each)) for each in cells))
    for rule, points in {} if found.is_search else found.grid.broken.items():
        for point in points:
            settings = [shown(text(point[key])) if key in point else "–" for key in keys] if wide else [label(point)]
            table.add_row("", *(Text(visible(each), "dim") for each in (*settings, f"left out: {rule}")))
    return table


def _figures(row: Foretold) -> list[str]:
    if row.state != TO_RUN:
        return ["", "", "", ""]
    foreseen = row.foreseen
    took = (foreseen.seconds, foreseen.usd(row.cell.settings))
    return [_memory(foreseen), *(_number(_times(each, row.runs)) for each in took), _source(foreseen)]


def _parents(found: Preview) -> Table:
    table = Table(title="Runs that cells stand on, each once", title_justify="left", box=box.SIMPLE)
    for name in ("stage", "run", "", "for cells", "GiB", "s", "$", "told from"):
        table.add_column(name)
    for each in found.parents:
        state = "there already" if each.finished else "to be trained first"
        figures = [""] * 4
        if not each.finished:
            figures = [_memory(each.foreseen), _number(each.foreseen.seconds), _number(each.usd), _source(each.foreseen)]
        table.add_row(*(Text(visible(cell)) for cell in (each.role, each.name, state, str(each.cells), *figures)))
    return table


def _totals(found: Preview) -> Iterator[str]:
    run, runs = found.run, [(row, row.runs) for row in found.rows if row.state == TO_RUN]
    parents = [each for each in found.parents if not each.finished]
    if found.is_search:
        to_come = _to_come(found)
        yield _of_search(run.sweep.trials, to_come)
        runs = [(row, to_come * run.sweep.seeds) for row in found.rows if to_come and row.state != CANNOT]
        parents = parents if runs else []
        if to_come and not runs:
            yield "what they take is not known: the cell above cannot run"
            return
    else:
        yield _count(found)
    beside = f" and {len(parents)} parent{'s' * (len(parents) > 1)}" if parents else ""
    yield f"runs to train: {sum(count for _, count in runs)}{beside}"
    seconds = [_times(row.foreseen.seconds, count) for row, count in runs]
    usd = [_times(row.foreseen.usd(row.cell.settings), count) for row, count in runs]
    at_once = Slots.here(run.sweep.parallel, run.sweep.threads).at_once(devices_of(run))
    yield _sum("their own time", [*seconds, *(each.foreseen.seconds for each in parents)], clock) + f"; {at_once} at a time"
    yield _sum("their price", [*usd, *(each.usd for each in parents)], lambda total: f"${total:.2f}")


def _to_come(found: Preview) -> int:
    """Trials of a search that have no end that counts; of one without a total the next."""
    total = found.run.sweep.trials
    return 1 if total is None else max(0, total - found.ended)


def _of_search(total: int | None, to_come: int) -> str:
    """How many trials are to come, before what they take."""
    if total is None:
        return "one trial like it:"
    if not to_come:
        return f"all {total} trials have ended:"
    many = f"{total} trials like it" if to_come == total else f"{to_come} of {total} trials to come, like it"
    return f"{many}, if none is pruned or needs no run:"


def _count(found: Preview) -> str:
    """How many cells there are of each kind."""
    left_out = len({label(point) for points in found.grid.broken.values() for point in points})
    counts = Counter(row.state for row in found.rows)
    told = [f"{count} {state}" for state, count in counts.items()] + ([f"{left_out} left out"] if left_out else [])
    return f"cells: {', '.join(told)}"


def _sum(what: str, values: Sequence[float | None], tell: Callable[[float], str]) -> str:
    """A total of what is known."""
    known = [each for each in values if each is not None]
    if not known:
        return f"{what}: not known" if values else f"{what}: none"
    return f"{what}: about {tell(sum(known))}" + (f" for {len(known)} of {len(values)}" if len(known) < len(values) else "")


def _times(value: float | None, factor: int) -> float | None:
    return None if value is None else value * factor


def _number(value: float | None) -> str:
    return "" if value is None else short(value)


def _memory(foreseen: Foreseen) -> str:
    """The bounds that are known."""
    least, most = foreseen.least_gib, foreseen.most_gib
    if least is not None and most is not None:
        return short(least) if least >= most else f"{short(least)} to {short(most)}"
    return f">= {short(least)}" if least is not None else f"<= {short(most)}" if most is not None else ""


def _source(foreseen: Foreseen) -> str:
    if not foreseen.like:
        return ""
    return foreseen.like + (f", {foreseen.apart} settings apart" if foreseen.apart else "")
