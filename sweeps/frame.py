"""What a study is, as noted when it began: a command that means something else is refused, unless told to go on."""

from typing import Any

from rlhf.config import Pruner, Run, SweepConfig, SweepMode
from rlhf.fault import Fault
from sweeps.cells import common
from sweeps.goal import Goal
from sweeps.space import Choices, Space, text

Frame = dict[str, Any]


def frame(space: Space, goal: Goal, run: Run) -> Frame:
    """Stage, mode, goal, fixed overrides, dimensions, and who proposes and who ends trials, in plain JSON."""
    domains = {}
    for each in space.dimensions:
        domain = each.domain
        if isinstance(domain, Choices):
            written = ", ".join(text(value) for value in domain.values)
        else:
            written = f"{domain.low:g} to {domain.high:g}{' (log)' if domain.log else ''}"
        domains[each.name] = written
    sweep = run.sweep
    return {
        "stage": run.stage,
        "mode": sweep.mode.name,
        "goal": str(goal),
        "fixed": common(space),
        "space": domains,
        "sampler": sweep.sampler.name,
        "pruner": _pruner(sweep),
    }


def _pruner(sweep: SweepConfig) -> str:
    """The rule with the settings it has, as words of the command line."""
    keys = {
        Pruner.none: (),
        Pruner.asha: ("reduction", "min_rung", "resource"),
        Pruner.hyperband: ("reduction", "min_rung", "brackets", "resource"),
        Pruner.median: ("min_rung", "warmup_trials", "resource"),
    }[sweep.pruner]
    values = {key: getattr(sweep, key) for key in keys}
    return " ".join([sweep.pruner.name, *(f"{key}={getattr(value, 'name', value)}" for key, value in values.items())])


def check(recorded: Frame | None, today: Frame, accept: bool, name: str) -> bool:
    """Compare with what was recorded; return whether the goal changed.

    A characterisation may get more values and other fixed settings: its rows say what each cell was.

    Raises:
        Fault: the study was another, and ``accept`` is not set.
    """
    if recorded is None:
        return False
    if recorded["stage"] != today["stage"]:
        was, now = recorded["stage"], today["stage"]
        raise Fault(f"sweep.name={name}: that study is of stage={was}; choose another name for stage={now}")
    judged = ["mode", "goal", "pruner"] + (["fixed", "space"] if today["mode"] != SweepMode.characterize.name else [])
    judged += ["sampler"] if today["mode"] == SweepMode.tune.name else []
    changed = [part for part in judged if part in recorded and recorded[part] != today[part]]  # an older one lacks some
    changes = [f"{part} {_said(recorded[part])} -> {_said(today[part])}" for part in changed]
    if changes and not accept:
        raise Fault(
            f"sweep.name={name}: the study was begun otherwise ({'; '.join(changes)}); "
            "go on with it by sweep.accept_changes=true, or choose another sweep.name"
        )
    return bool(recorded["goal"] != today["goal"])


def _said(part: Any) -> str:
    if isinstance(part, dict):
        return "{" + "; ".join(f"{key}: {value}" for key, value in part.items()) + "}"
    return " ".join(part) if isinstance(part, list) else str(part)
