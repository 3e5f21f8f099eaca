"""Metrics at the end, group against group: the difference, its 95 % interval, and what that allows to say."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf.compare import comparable, intervals
from rlhf.compare.groups import Group
from rlhf.compare.intervals import Interval
from rlhf.compare.subject import Subject
from rlhf.report.curves import INTERVAL
from rlhf.result import HEADLINES, OBJECTIVES

NO_MEASURE = ("progress/", "eval/pairs/", "learning_rate/")
SAME, HIGHER, LOWER = "not distinguishable", "higher", "lower"
NO_INTERVAL, NOT_COMPARABLE = "no interval", "not comparable"
EQUAL = "equal"
COSTS = ("run/seconds", "run/cost_usd", "run/peak_memory_gib", "perf/tokens_per_second")
BETTER = {
    **{goal.metric: LOWER if goal.direction == "minimize" else HIGHER for goal in OBJECTIVES.values()},
    **dict.fromkeys(("eval/perplexity", *COSTS[:3]), LOWER),
    **dict.fromkeys(("reward/gold_gain", COSTS[3]), HIGHER),
}
"""Where it is plain which way is better."""

Scores = Callable[[Subject], Sequence[float] | None]


@dataclass(frozen=True)
class Difference:
    """A metric of one group minus that of the base line."""

    letter: str
    base: str
    value: float
    interval: Interval | None
    verdict: str
    why: str = ""
    """Why there is no interval, or no comparison."""


@dataclass(frozen=True)
class Measure:
    """One metric of all groups."""

    metric: str
    means: Sequence[float | None]
    """Over the seeds of each group; None where a run lacks it."""
    spreads: Sequence[tuple[float, float] | None]
    """95 % interval of each mean over seeds, else the one that the run itself recorded."""
    differences: Sequence[Difference]
    headline: bool


def measures(groups: Sequence[Group]) -> list[Measure]:
    """The metrics that the base line shares with another group, headlines and costs first."""
    base, others = groups[0], groups[1:]
    names = sorted(base.metrics & set().union(*(each.metrics for each in others)))
    heads = dict.fromkeys(name for group in groups for name in headlines(group.first.stage))
    shown = [name for name in names if not INTERVAL.match(name) and not name.startswith(NO_MEASURE)]
    ordered = sorted(shown, key=lambda name: (list(heads).index(name) if name in heads else len(heads), name))
    return [
        Measure(
            metric=name,
            means=[_mean(group, name) for group in groups],
            spreads=[_spread(group, name) for group in groups],
            differences=[difference(name, base, each) for each in others if name in each.metrics],
            headline=name in heads,
        )
        for name in ordered
    ]


def headlines(stage: str) -> Iterator[str]:
    """Metrics that a comparison of ``stage`` is read for."""
    if stage in OBJECTIVES:
        yield OBJECTIVES[stage].metric
    yield from (name for name in HEADLINES.get(stage, ()) if not name.startswith("baseline/"))
    yield from COSTS


def difference(metric: str, base: Group, other: Group) -> Difference:
    """``metric`` of ``other`` minus that of ``base``."""
    value = fmean(other.values(metric)) - fmean(base.values(metric))
    if reason := comparable.reason(metric, base, other):
        return Difference(other.letter, base.letter, value, None, NOT_COMPARABLE, reason)
    return _judged(base, other, value, *_interval(metric, base, other))


def of_values(metric: str, base: Group, other: Group, value: Callable[[Subject], float]) -> Difference:
    """As ``difference``, of a ``value`` of each run that is read off its curve of ``metric``."""
    plain = fmean(map(value, other.members)) - fmean(map(value, base.members))
    if reason := comparable.reason(metric, base, other):
        return Difference(other.letter, base.letter, plain, None, NOT_COMPARABLE, reason)
    return _judged(base, other, plain, over_seeds(base, other, value), "one run a side")


def _judged(base: Group, other: Group, value: float, found: Interval | None, why: str) -> Difference:
    if found is None:
        return Difference(other.letter, base.letter, value, None, NO_INTERVAL if value else EQUAL, why)
    verdict = SAME if not found.decided else HIGHER if found.low > 0 else LOWER
    if found.low == found.high == 0:
        verdict = EQUAL
    return Difference(other.letter, base.letter, found.value, found, verdict)


def over_seeds(base: Group, other: Group, value: Callable[[Subject], float]) -> Interval | None:
    """Interval of a difference of ``value``, between runs of the same seeds if they are the same; None without seeds."""
    if min(len(base.members), len(other.members)) < 2:
        return None
    if sorted(base.seeds) == sorted(other.seeds) and len(set(base.seeds)) == len(base.members):
        by_seed = {run.seed: value(run) for run in base.members}
        return intervals.paired_seeds([value(run) - by_seed[run.seed] for run in other.members])
    return intervals.apart(list(map(value, other.members)), list(map(value, base.members)))


def _interval(metric: str, base: Group, other: Group) -> tuple[Interval | None, str]:
    if not all(map(math.isfinite, [*base.values(metric), *other.values(metric)])):
        return None, "not finite"
    if (found := over_seeds(base, other, lambda run: run.metrics[metric])) is not None:
        return found, ""
    if len(base.members) > 1 or len(other.members) > 1:
        return None, "one side has a single seed"
    if metric not in SCORES:
        return None, "one run a side"
    these, those = (SCORES[metric](each.first) for each in (base, other))
    if these is None or those is None or len(these) != len(those) or len(these) < 2:
        return None, "one run a side, no scores of single prompts"
    if not comparable.same_exam(base.first, other.first):
        return None, "one run a side, perhaps other prompts"
    apart = [two - one for one, two in zip(these, those, strict=True)]
    tokens = [each.first.last_scores.get("tokens") for each in (base, other)]
    if tokens[0] is not None:
        if tokens[0] != tokens[1] or len(tokens[0]) != len(apart):
            return None, "one run a side, counted in other tokens"
        apart = intervals.weighed(apart, tokens[0])
    if not all(map(math.isfinite, apart)):
        return None, "not finite"
    unit = "pairs" if "chosen" in base.first.last_scores else "prompts"
    return intervals.paired(apart, unit), ""


def _score(name: str) -> Scores:
    return lambda run: run.last_scores.get(name)


def _gain(name: str) -> Scores:
    """Of each prompt, over the policy that PPO started from, which the first evaluation is of."""

    def gains(run: Subject) -> Sequence[float] | None:
        first = run.scores.get(0, {}).get(name)
        last = run.last_scores.get(name)
        if first is None or last is None or len(first) != len(last):
            return None
        return [after - before for before, after in zip(first, last, strict=True)]

    return gains


def _right(run: Subject) -> Sequence[float] | None:
    pairs = _pairs(run)
    return None if pairs is None else [float(better > worse) + 0.5 * (better == worse) for better, worse in pairs]


def _loss(run: Subject) -> Sequence[float] | None:
    if "loss" in run.last_scores:
        return run.last_scores["loss"]
    pairs = _pairs(run)
    return None if pairs is None else [_softplus(worse - better) for better, worse in pairs]


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def _pairs(run: Subject) -> list[tuple[float, float]] | None:
    chosen, rejected = (run.last_scores.get(side) for side in ("chosen", "rejected"))
    if chosen is None or rejected is None or len(chosen) != len(rejected):
        return None
    return list(zip(chosen, rejected, strict=True))


SCORES: dict[str, Scores] = {
    "eval/score_mean": _score("score"),
    "reward/gain": _gain("score"),
    "reward/gold_mean": _score("gold"),
    "reward/gold_gain": _gain("gold"),
    "eval/accuracy": _right,
    "eval/loss": _loss,
}
"""Metrics that are means over held-out prompts or pairs, and how each one's share is known."""


def _mean(group: Group, metric: str) -> float | None:
    return fmean(group.values(metric)) if metric in group.metrics else None


def _spread(group: Group, metric: str) -> tuple[float, float] | None:
    if metric in group.metrics and len(group.members) > 1 and all(map(math.isfinite, group.values(metric))):
        return intervals.of_mean(group.values(metric))
    low, high = (group.first.metrics.get(f"{metric}_{end}", math.nan) for end in ("low", "high"))
    if len(group.members) > 1 or not math.isfinite(low) or not math.isfinite(high):
        return None
    return low, high
