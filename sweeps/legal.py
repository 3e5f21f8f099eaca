"""The cells of a study with all that is wrong with them and with its settings, before a folder is made."""

import re
from collections.abc import Iterator

from omegaconf import DictConfig

from rlhf import preflight
from rlhf.config import Pruner, Run, Sampler, SweepConfig, SweepMode
from rlhf.fault import Fault
from sweeps import screening
from sweeps.cells import Cell, Composer, Grid, every, grid, misplaced, probe
from sweeps.goal import Goal
from sweeps.space import Choices, Space


def legal(composer: Composer, arguments: list[str], sweep: DictConfig) -> Grid:
    """The cells, or of a search one of them, with all their faults."""
    if faults := misplaced(preflight.with_space(arguments, sweep)):
        return Grid([], {}, faults)
    if sweep.mode is SweepMode.tune:
        found = probe(composer)
    elif sweep.mode is SweepMode.screen:
        found = every(composer, screening.points(composer.space))
    elif composer.space.is_finite:
        offered = {*map(str, sweep.space)} - {preflight.override_key(each) for each in arguments}
        found = grid(composer, list(composer.space.points()), offered)
    else:
        endless = (each for each in composer.space.dimensions if not isinstance(each.domain, Choices))
        return Grid([], {}, list(dict.fromkeys(f"{each.key}: {preflight.CONTINUOUS}" for each in endless)))
    if found.cells and not found.faults:
        found.faults.extend(_settings(found.cells[0].run, composer.space))
    return found


def _settings(run: Run, space: Space) -> Iterator[str]:
    """Faults of the study's own settings."""
    sweep = run.sweep
    if sweep.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", sweep.name):
        yield f"sweep.name={sweep.name}: names a folder; use letters, digits, `.`, `_` and `-`"
    if sweep.mode is SweepMode.tune and (sweep.trials, sweep.max_hours, sweep.max_usd) == (None, None, None):
        yield "sweep.mode=tune: has no end; set sweep.trials, sweep.max_hours or sweep.max_usd"
    if sweep.max_usd is not None and not run.hardware.usd_per_hour:
        why = "no price is known" if run.hardware.usd_per_hour is None else "an hour costs 0, so they are never spent"
        yield f"sweep.max_usd={sweep.max_usd}: {why}; set hardware.usd_per_hour"
    if sweep.mode is SweepMode.tune and run.fresh:
        yield "fresh=true: a search learns from what it has; give it another sweep.name"
    if sweep.storage is not None and re.search(r"://[^/@]*:[^/@]*@", sweep.storage):
        yield "sweep.storage: holds a password, which would stand in every folder; leave it out and set PGPASSWORD"
    if sweep.seeds > 1 and (swept := [each for each in space.dimensions if each.key == "seed"]):
        values = ",".join(map(str, swept[0].domain.values)) if isinstance(swept[0].domain, Choices) else "..."
        rule = f"each trial runs under that many seeds, so seed={values} cannot be swept as well"
        yield f"sweep.seeds={sweep.seeds}: {rule}; give seed one value, the first of them, or leave out sweep.seeds"
    if sweep.pruner is not Pruner.none and sweep.seeds > 1:
        yield f"sweep.pruner={sweep.pruner.name}: judges single runs; use it with sweep.seeds=1"
    if sweep.mode is SweepMode.tune and sweep.sampler is Sampler.cmaes:
        yield from _cmaes(sweep, space)
    try:
        Goal.of(run)
    except Fault as fault:  # now, while no folder has been made
        yield str(fault)
    if not space.dimensions and sweep.mode is SweepMode.tune:
        yield "sweep.space: has no dimension to search; give a key several values, as sft.learning_rate=interval(1e-5,1e-3)"


def _cmaes(sweep: SweepConfig, space: Space) -> Iterator[str]:
    """What Optuna's CMA-ES cannot do, or does by drawing at random."""
    if sweep.objective is not None and (many := len(sweep.objective)) > 1:
        yield f"sweep.sampler=cmaes: follows one objective, and there are {many}; use sweep.sampler=nsga2 or tpe"
    if sweep.constraints:
        yield "sweep.sampler=cmaes: does not hear of constraints; use sweep.sampler=tpe, or leave sweep.constraints out"
    numbers = [each.key for each in space.dimensions if each.is_always_a_number]
    if space.dimensions and len(numbers) < 2:
        yield (
            "sweep.sampler=cmaes: searches two or more intervals and ranges that have no condition, and draws everything else "
            f"at random; there {'is' if numbers else 'are'} {', '.join(numbers) or 'none'}; use sweep.sampler=tpe"
        )


def as_judged(run: Run, cells: list[Cell]) -> list[Cell]:
    """``cells`` as a plan takes them: with a pruner by their digests, since a grid from its worst value to its best would
    end nobody early."""
    return cells if run.sweep.pruner is Pruner.none else sorted(cells, key=lambda cell: cell.digest)
