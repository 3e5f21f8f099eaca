"""How much each key has to do with a trial being among the best: PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255).

Beside ``sweeps.record`` the only module that knows Optuna; the study it asks about is made of rows, in memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from rlhf.result import Objective
from sweeps.space import Point, text

FEWEST = 10
"""Finished trials below which nothing is said."""
TOP = 5
"""Trials that count as the best at least; above ten times as many, a tenth of all."""


@dataclass(frozen=True)
class Importance:
    """The shares of the keys in one objective, largest first."""

    objective: Objective
    shares: Sequence[tuple[str, float]]
    """They add up to 1."""
    constant: Sequence[str]
    """Keys of which nothing can be said: one value among all finished trials."""
    note: str
    """What it was taken over, or why there is none."""


def importance(space: Sequence[Mapping[str, Any]], objective: Objective, measured: Sequence[tuple[Point, float]]) -> Importance:
    """Judge the keys of ``space`` (as ``study.json`` has it) by points with their values of one objective."""
    keys = list(dict.fromkeys(each["key"] for each in space))
    seen = {key: {text(point[key]) for point, _ in measured if key in point} for key in keys}
    moving, constant = [key for key in keys if len(seen[key]) > 1], [key for key in keys if len(seen[key]) == 1]
    if len(measured) < FEWEST:
        return Importance(objective, [], constant, f"needs {FEWEST} finished trials; there are {len(measured)}")
    if not moving:
        return Importance(objective, [], constant, "no key has two values among the finished trials")
    quantile = max(0.1, TOP / len(measured))
    best = math.ceil(quantile * len(measured))
    ordered = sorted((value for _, value in measured), reverse=objective.direction == "maximize")
    if ordered[best - 1] == ordered[-1]:
        return Importance(objective, [], constant, "too many finished trials have the same value")
    study = _study({key: _distribution(key, space, seen[key]) for key in moving}, objective, measured)
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile))
    shares = sorted(found.items(), key=lambda each: -each[1])
    return Importance(objective, shares, constant, f"the best {best} of {len(measured)} finished trials")


def _study(
    distributions: Mapping[str, BaseDistribution], objective: Objective, measured: Sequence[tuple[Point, float]]
) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction=objective.direction)
    for point, value in measured:
        here = {key: each for key, each in distributions.items() if key in point}
        params = {
            key: text(point[key]) if isinstance(each, CategoricalDistribution) else float(point[key])
            for key, each in here.items()
        }
        study.add_trial(optuna.create_trial(params=params, distributions=here, value=value))
    return study


def _distribution(key: str, space: Sequence[Mapping[str, Any]], seen: set[str]) -> BaseDistribution:
    """Numbers where all dimensions of the key are intervals, else the values that were seen."""
    dimensions = [each for each in space if each["key"] == key]
    if any("values" in each for each in dimensions):
        return CategoricalDistribution(sorted(seen))
    values = [float(each) for each in seen]
    low = min([*values, *(each["low"] for each in dimensions)])
    high = max([*values, *(each["high"] for each in dimensions)])
    return FloatDistribution(low, high, log=low > 0 and any(each["log"] for each in dimensions))
