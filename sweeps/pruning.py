"""Which trials end early: a trial is judged at its evaluations by those of the other trials that have trained as much.

The rules read curves and nothing else, so the same history gives the same verdict.

* `asha` (Li et al. 2020, arXiv:1810.05934): rungs at evaluation m, m*r, m*r^2, ...; of n trials that have been at a rung,
  the best n // r go on, and always the best one. Trials do not wait for each other; one that was stopped while few had
  been there is ``promotable`` when more have come and it is among the best after all.
* `hyperband` (Li et al. 2018, arXiv:1603.06560), asynchronous: trials are dealt out to brackets in the proportions of the
  paper; a bracket is a study of `asha` of its own, whose first rung is r times further than that of the bracket before.
* `median` (Golovin et al. 2017, section 3.2): a trial ends when its best so far is worse than the median of the others'
  averages so far. Of others, all that have trained as much count, not only those that ended.

Of several objectives the order is that of NSGA-II (Deb et al. 2002): first the front of non-dominated sorting, then
crowding distance. A value that is not finite is the worst there is, and a trial with no finite one ends.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rlhf.config import Pruner, SweepConfig
from rlhf.result import Objective
from rlhf.verdicts import Verdict
from sweeps.curves import Curve, Point
from sweeps.fronts import Values, better_than

SLACK = 1.1
"""Trials have trained as much as another if they are at most this factor apart: rounds differ a little in tokens."""


class Judgement:
    """The rule of a study, with its settings."""

    def __init__(self, sweep: SweepConfig, objectives: Sequence[Objective]) -> None:
        self._sweep, self._objectives = sweep, objectives
        self._dealt = deal(sweep.brackets, sweep.reduction) if sweep.pruner is Pruner.hyperband else [0]

    def verdict(self, trial: int, curve: Curve, others: Mapping[int, Curve]) -> Verdict:
        """Judge ``trial`` at the last evaluation of ``curve`` by the curves of the other trials, by number."""
        rule = self._sweep.pruner
        here, count = curve[-1], len(curve)
        followed = [each for each in self._objectives if each.metric in here.values]
        if not followed:
            return self._go(f"evaluation {count} has no {' or '.join(each.metric for each in self._objectives)}")
        if rule is Pruner.none or count < self._first_rung(trial):
            return self._go(f"evaluation {count}: not judged yet", max(0, self._first_rung(trial) - count - 1))
        if not any(math.isfinite(here.values[each.metric]) for each in followed):
            said = ", ".join(f"{each.metric} is {here.values[each.metric]}" for each in followed)
            return Verdict(False, rule.name, f"evaluation {count}: {said}")
        if rule is Pruner.median:
            return self._by_the_median(curve, list(others.values()), followed)
        rung, at = self._rung(trial, count)
        if at > count:
            return self._go(f"evaluation {count}: between two rungs", at - count - 1)
        bracket = self._bracket(trial)
        peers = [each for number, each in others.items() if number != trial and self._bracket(number) == bracket]
        verdict = self._by_halving(rung, here, peers, followed)
        return replace(verdict, skip=at * self._sweep.reduction - at - 1 if verdict.go else 0)

    def promotable(self, trial: int, curve: Curve, others: Mapping[int, Curve]) -> bool:
        """Whether ``trial``, which ended at the last evaluation of ``curve``, is among those that go on by now."""
        halving = self._sweep.pruner in (Pruner.asha, Pruner.hyperband)
        return halving and bool(curve) and self.verdict(trial, curve, others).go

    def _by_halving(self, rung: int, here: Point, peers: Sequence[Curve], followed: Sequence[Objective]) -> Verdict:
        own = _values(here, followed)
        there = [found for each in peers if (found := self._at(each, here)) is not None]
        theirs = [_values(found, followed) for found in there if all(each.metric in found.values for each in followed)]
        total = len(theirs) + 1
        keep = max(1, total // self._sweep.reduction)
        place = better_than(own, theirs) + 1
        if len(followed) == 1:
            cut = sorted([own, *theirs])[keep - 1]
            said = f"{followed[0].metric} {_shown(own, followed[0])} against {_shown(cut, followed[0])}"
        else:
            said = f"place {place} by non-domination and crowding"
        why = f"rung {rung}: {said}; {keep} of {total} go on"
        return Verdict(place <= keep, self._sweep.pruner.name, why)

    def _by_the_median(self, curve: Curve, peers: Sequence[Curve], followed: Sequence[Objective]) -> Verdict:
        averages = [found for each in peers if (found := self._average(each, curve[-1], followed)) is not None]
        if len(averages) < self._sweep.warmup_trials:
            return self._go(f"evaluation {len(curve)}: only {len(averages)} others have come as far")
        points = [_values(point, followed) for point in curve if all(each.metric in point.values for each in followed)]
        best = tuple(map(min, zip(*points, strict=True)))
        if len(followed) == 1:
            median = statistics.median(average[0] for average in averages)
            behind = best[0] > median
            said = f"{followed[0].metric} {_shown(best, followed[0])} against {_shown((median,), followed[0])}"
        else:
            ahead = better_than(best, averages)
            behind, said = ahead > len(averages) / 2, f"{ahead} of {len(averages)} are ahead by non-domination and crowding"
        return Verdict(not behind, self._sweep.pruner.name, f"evaluation {len(curve)}: {said}")

    def _go(self, why: str, skip: int = 0) -> Verdict:
        return Verdict(True, self._sweep.pruner.name, why, skip)

    def _at(self, curve: Curve, here: Point) -> Point | None:
        """The evaluation of another trial when it had trained as much; None if it has not come so far."""
        within = self._until(curve, here)
        amount = here.amount(self._sweep.resource)
        return min(within, key=lambda point: abs(point.amount(self._sweep.resource) - amount)) if within else None

    def _average(self, curve: Curve, here: Point, followed: Sequence[Objective]) -> Values | None:
        within = self._until(curve, here)
        points = [_values(point, followed) for point in within if all(each.metric in point.values for each in followed)]
        return tuple(sum(column) / len(points) for column in zip(*points, strict=True)) if points else None

    def _until(self, curve: Curve, here: Point) -> Curve:
        """The evaluations of another trial up to as much training; none if it has not come so far."""
        resource, amount = self._sweep.resource, here.amount(self._sweep.resource)
        if not curve or curve[-1].amount(resource) * SLACK < amount:
            return []
        return [point for point in curve if point.amount(resource) <= amount * SLACK]

    def _first_rung(self, trial: int) -> int:
        return self._sweep.min_rung * self._sweep.reduction ** self._bracket(trial)

    def _rung(self, trial: int, count: int) -> tuple[int, int]:
        """The rung at evaluation number ``count``, or else the next one, from 1, and the number of its evaluation."""
        rung, at = 1, self._first_rung(trial)
        while at < count:
            rung, at = rung + 1, at * self._sweep.reduction
        return rung, at

    def _bracket(self, trial: int) -> int:
        """The bracket of a trial by its number, from 0, whose trials are judged first."""
        return self._dealt[trial % len(self._dealt)]


def deal(brackets: int, reduction: int) -> list[int]:
    """The brackets of trials in turn, as evenly mixed as their sizes allow."""
    parts = sizes(brackets, reduction)
    dealt: list[int] = []
    for turn in range(1, sum(parts) + 1):
        owed = [turn * size / sum(parts) - dealt.count(bracket) for bracket, size in enumerate(parts)]
        dealt.append(max(range(brackets), key=lambda bracket: owed[bracket]))
    return dealt


def sizes(brackets: int, reduction: int) -> list[int]:
    """Trials of each bracket: ceil((s_max + 1) / (s + 1) * r^s) for s = s_max, ..., 0, as in algorithm 1 of Hyperband."""
    return [-(-brackets * reduction**s // (s + 1)) for s in reversed(range(brackets))]


def _values(point: Point, followed: Sequence[Objective]) -> Values:
    """The objectives at a point, turned so that less is better."""
    found = [(point.values[each.metric], each) for each in followed]
    return tuple(
        (value if each.direction == "minimize" else -value) if math.isfinite(value) else math.inf for value, each in found
    )


def _shown(values: Values, objective: Objective) -> str:
    return f"{values[0] if objective.direction == 'minimize' else -values[0]:.4g}"
