"""What a study says so far: the best point, those like it, the Pareto front, the champions of cost, and why others failed."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf.constraint import dominates
from rlhf.preflight import override_key
from rlhf.result import Objective, Status
from rlhf.runs import CONFIG
from sweeps.answer.folder import PACE, PARENTS, TRIALS, Study, Trial, pasteable
from sweeps.record import RUNNING
from sweeps.seeds import are_distinguishable
from sweeps.space import quoted

COSTS = (
    Objective("perf/tokens_per_second", "maximize"),
    Objective("mem/peak_gib", "minimize"),
    Objective("cost/usd", "minimize"),
)
"""What a point is weighed by beside the study's own objectives."""
TITLES = {"perf/tokens_per_second": "fastest", "mem/peak_gib": "needs least memory", "cost/usd": "cheapest"}
TIMED = ("perf/tokens_per_second", "cost/usd", "time/seconds", PACE)
"""What hangs on what else the machine did."""
APART = 0.01
LOST = (Status.failed.name, Status.infeasible.name, Status.lost.name, Status.stopped.name)
ORDER = ("finished", RUNNING, "pruned", "stopped", "lost", "infeasible", "failed")


@dataclass(frozen=True)
class Spread:
    """A 95 % interval, and what it is over."""

    low: float
    high: float
    over: str


@dataclass(frozen=True)
class Failure:
    """Trials, or parents, that ended for the same reason."""

    status: str
    reason: str
    names: Sequence[str]
    message: str
    """Of the first."""
    log: Path


@dataclass(frozen=True)
class Standing:
    """The answer of a study as far as it is known."""

    ranked: Sequence[Trial]
    """All of them: those that nothing beats in the objectives, by the first one, then the others that keep the constraints,
    those last that got fewer seeds, then those that do not, or did not finish, did not fit, or failed."""
    best: Trial | None
    """Of one objective the best that keeps all constraints; of several the first of their front."""
    leaders: Sequence[Trial]
    """Of several objectives: nothing is better than one of these in every one of them."""
    alike: Sequence[Trial]
    """Trials that the seeds do not tell from the best."""
    axes: Sequence[Objective]
    """What the front is drawn over: the objectives, and what was measured of speed, memory and dollars."""
    front: Sequence[Trial]
    """Trials that no other beats in all of them."""
    champions: Sequence[tuple[str, Objective, Trial]]
    """Fastest, least memory, cheapest, among those that keep the constraints; times of runs from before do not count."""
    failures: Sequence[Failure]
    counts: Sequence[tuple[str, int]]
    """Trials by status."""


def of(study: Study) -> Standing:
    """Judge the trials of ``study``."""
    good = [each for each in study.trials if each.is_good]
    objectives = study.goal.objectives
    order = sorted(good, key=lambda each: turned(each, objectives))
    leaders = _front(order, objectives)
    best = leaders[0] if leaders else None
    hopeless = sorted(
        (each for each in study.trials if each.keeps and not each.is_good), key=lambda each: turned(each, objectives)
    )
    rest = sorted((each for each in study.trials if not each.keeps), key=_place)
    axes = [*objectives, *(each for each in COSTS if each not in objectives and _tells(good, each.metric))]
    measured = [each for each in good if all(axis.metric in each.measured for axis in axes)]
    ahead = {each.number for each in leaders}
    behind = [each for each in order if each.number not in ahead]
    statuses = Counter(each.entry.status for each in study.trials)
    return Standing(
        ranked=[*leaders, *behind, *hopeless, *rest],
        best=best,
        leaders=leaders,
        alike=_alike(best, [*order, *hopeless]) if len(objectives) == 1 else [],
        axes=axes,
        front=_front(sorted(measured, key=lambda each: turned(each, axes)), axes),
        champions=list(_champions(good)),
        failures=_failures(study),
        counts=[(status, statuses[status]) for status in ORDER if statuses[status]],
    )


def turned(trial: Trial, axes: Sequence[Objective]) -> tuple[float, ...]:
    """What a trial is ranked by on ``axes``, turned so that less is better."""
    return tuple(trial.ranked_by[each.metric] * (1 if each.direction == "minimize" else -1) for each in axes)


def spread(trial: Trial, metric: str) -> Spread | None:
    """The interval of a metric: over the trial's seeds if it has several, else over what its one run was evaluated on."""
    low, high = trial.measured.get(f"{metric}_low"), trial.measured.get(f"{metric}_high")
    if low is None or high is None:
        return None
    return Spread(low, high, f"{len(trial.seeds)} seeds" if trial.seeds else "its evaluation")


def how(trial: Trial) -> str:
    """How a trial ended, in words."""
    reason = trial.entry.reason or (trial.result.reason if trial.result else "")
    return f"{trial.entry.status} ({reason})" if reason else trial.entry.status


def commands(trial: Trial) -> list[str]:
    """What runs a finished trial again and compares: one command, or one a seed."""
    return [shlex.join(["python", "-m", "rlhf", "reproduce", str(each.run)]) for each in trial.tracks]


def alone(study: Study, trial: Trial) -> str:
    """The command that makes a trial a run of its own; empty where its frozen configuration is gone, which it is told from.

    What `sweep=NAME` sets beside the study stands in it as words of its own, before those that were typed.
    """
    words = [each for each in trial.entry.overrides if override_key(each).split(".")[0] != "sweep"]
    typed = {override_key(each) for each in words}
    option = {"groups": {}, "keys": [], **study.about.get("option", {})}
    said = {group: choice for group, choice in option["groups"].items() if group not in typed}
    if keys := [key for key in option["keys"] if key not in typed]:
        frozen = next(iter(sorted((study.path / TRIALS / f"{trial.number:04d}").rglob(CONFIG))), None)
        if frozen is None:
            return ""
        config = OmegaConf.load(frozen)
        said |= {key: _plain(OmegaConf.select(config, key)) for key in keys}
    own = [f"{key}={quoted(value)}" for key, value in said.items()]
    return pasteable(["python", "-m", "rlhf", *own, *words, *study.flags])


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _champions(good: Sequence[Trial]) -> Iterator[tuple[str, Objective, Trial]]:
    """By time and price only runs of the study itself are compared."""
    for axis in COSTS:
        compared = [each for each in good if axis.metric not in TIMED or not each.is_reused]
        known = [each for each in compared if axis.metric in each.measured]
        if known and _tells(compared, axis.metric):
            yield TITLES[axis.metric], axis, min(known, key=lambda each: turned(each, [axis]))


def _front(trials: Sequence[Trial], axes: Sequence[Objective]) -> list[Trial]:
    """Those that no other beats, in their order."""
    points = [turned(each, axes) for each in trials]
    return [each for each, point in zip(trials, points, strict=True) if not any(dominates(other, point) for other in points)]


def _alike(best: Trial | None, kept: Sequence[Trial]) -> list[Trial]:
    if best is None or not best.seeds:
        return []
    return [each for each in kept if each is not best and not are_distinguishable(best.seeds, each.seeds)]


def _tells(good: Sequence[Trial], metric: str) -> bool:
    """Whether a metric was measured for all, and some are more than a hundredth apart."""
    values = [each.measured[metric] for each in good if metric in each.measured]
    return len(values) == len(good) > 1 and max(values) - min(values) > APART * max(map(abs, values))


def _place(trial: Trial) -> tuple[int, int]:
    return ORDER.index(trial.entry.status), trial.number


def _failures(study: Study) -> list[Failure]:
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for each in study.trials:
        if each.entry.status in LOST and each.result is not None:
            reason = re.sub(r"#\d+", "another", each.entry.reason)
            place = f"{TRIALS}{each.number:04d}"
            found.setdefault((each.entry.status, reason), []).append((f"{each.number:04d}", each.message, place))
    for name, result in study.parents.items():
        if result.status.name in LOST:
            message = (result.message.splitlines() or [""])[0]
            found.setdefault((result.status.name, result.reason), []).append((name, message, f"{PARENTS}{name}"))
    failures = [
        Failure(status, reason, [name for name, _, _ in those], those[0][1], study.path / those[0][2] / "log.txt")
        for (status, reason), those in found.items()
    ]
    return sorted(failures, key=lambda each: -len(each.names))
