"""The dimensions of a space as Optuna's distributions, with every value that a study has tried so far."""

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial

from rlhf.fault import Fault
from sweeps.space import Choices, Dimension, Point, Space

KINDS = {CategoricalDistribution: "a list of values", IntDistribution: "whole numbers", FloatDistribution: "any numbers"}


class Distributions:
    """Draws the points of a space. Optuna's choices cannot change, so a list has the values of before, too."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._choices: dict[str, list[Any]] = {}

    def widen(self, trials: Sequence[FrozenTrial]) -> bool:
        """Take in what ``trials`` were drawn from; whether that has to grow for the space of today.

        Raises:
            Fault: a dimension was of another kind, and has no list of values today.
        """
        old = {key: each for trial in trials for key, each in trial.distributions.items()}
        self._choices = {key: list(each.choices) for key, each in old.items() if isinstance(each, CategoricalDistribution)}
        grown = False
        for dimension in self._space.dimensions:
            today, before = self._of(dimension), old.get(dimension.name)
            if before is not None and type(today) is not type(before):
                if not isinstance(dimension.domain, Choices):
                    was, now = KINDS[type(before)], KINDS[type(today)]
                    raise Fault(f"{dimension.name}: was {was} in this study and is {now}; choose another sweep.name for that")
                tried = [trial.params[dimension.name] for trial in trials if dimension.name in trial.params]
                self._choices[dimension.name] = [*dict.fromkeys(tried)]  # a list holds any values, numbers with an order not
                today = self._of(dimension)
            if isinstance(dimension.domain, Choices) and isinstance(today, CategoricalDistribution):
                known = self._choices.setdefault(dimension.name, [])
                missing = [value for value in dimension.domain.values if value not in known]
                known += missing
                grown = grown or bool(missing and before is not None)
        return grown

    def suggest(self, trial: Trial) -> Point:
        """A point for a trial that Optuna was asked for, or was given."""
        point: Point = {}
        for dimension in self._space.dimensions:
            if self._space.exists(dimension, point):
                point[dimension.key] = self._suggested(trial, dimension)
        return point

    def widened(self, key: str, old: BaseDistribution) -> BaseDistribution:
        """What a trial of before is drawn from today."""
        return CategoricalDistribution(self._choices[key]) if key in self._choices else old

    def plain(self, point: Point) -> dict[str, Any]:
        """``point`` by the names of its dimensions, with the very objects that the choices hold: 1 and True are equal."""
        plain = {}
        for dimension in self._space.dimensions:
            if dimension.key in point and self._space.exists(dimension, point):
                value, choices = point[dimension.key], self._choices.get(dimension.name, [])
                plain[dimension.name] = choices[choices.index(value)] if value in choices else value
        return plain

    def _suggested(self, trial: Trial, dimension: Dimension) -> Any:
        name = dimension.name
        match self._of(dimension):
            case CategoricalDistribution() as one_of:
                return trial.suggest_categorical(name, one_of.choices)
            case IntDistribution() as whole:
                return trial.suggest_int(name, whole.low, whole.high, step=whole.step, log=whole.log)
            case FloatDistribution() as number:
                return trial.suggest_float(name, number.low, number.high, step=number.step, log=number.log)
            case other:
                raise AssertionError(other)

    def _of(self, dimension: Dimension) -> BaseDistribution:
        domain, wider = dimension.domain, self._choices.get(dimension.name)
        if not isinstance(domain, Choices):
            if domain.whole:
                return IntDistribution(int(domain.low), int(domain.high), log=domain.log)
            return FloatDistribution(domain.low, domain.high, log=domain.log)
        if domain.step is None or wider:
            return CategoricalDistribution(wider or domain.values)
        low, high = domain.values[0], domain.values[-1]
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, step=int(domain.step))
        return FloatDistribution(low, high, step=domain.step)
