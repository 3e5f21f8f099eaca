"""A point of a study run under several seeds: its mean with an interval, and whether more seeds are worth their price.

Every point uses the same seeds in the same order (common random numbers), so two points are compared by their differences
seed by seed.
"""

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlhf.result import Objective, Result, Status

RESAMPLES = 2000

T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t, two-sided 95 %, at 1 to 9 degrees of freedom; beyond them 1.96 is close enough."""


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval; without one where there is a single value."""

    mean: float
    low: float | None
    high: float | None


def bootstrap(values: Sequence[float]) -> Interval:
    """Percentile bootstrap of the mean (Efron 1979), the same for the same values; widened to Student's t below five.

    Resampling two or three values gives intervals that are far too narrow.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    if len(values) < 5:
        half = _t_half(values)
        return Interval(mean, mean - half, mean + half)
    chance = random.Random(0)
    means = sorted(statistics.fmean(chance.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return Interval(mean, means[round(0.025 * (RESAMPLES - 1))], means[round(0.975 * (RESAMPLES - 1))])


def is_hopeless(values: Mapping[int, float], best: Mapping[int, float], objective: Objective) -> bool:
    """Whether a point with ``values`` by seed is surely worse than the best one: on the seeds both have, the 95 % interval
    of the difference lies wholly on the worse side. Never after a single seed."""
    sign = 1.0 if objective.direction == "minimize" else -1.0
    worse_by = [sign * (values[seed] - best[seed]) for seed in values if seed in best]
    return len(worse_by) >= 2 and statistics.fmean(worse_by) - _t_half(worse_by) > 0


def are_distinguishable(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    """Whether two points differ: by their differences on two or more common seeds, else by whether their intervals overlap."""
    common = [first[seed] - second[seed] for seed in first if seed in second]
    if len(common) >= 2:
        return abs(statistics.fmean(common)) > _t_half(common)
    one, other = bootstrap([*first.values()]), bootstrap([*second.values()])
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low > other.high or other.low > one.high


def joined(results: Sequence[Result], planned: int) -> Result:
    """The result of a point from those of its seeds, all finished: means, with intervals, and what all of them took."""
    first = results[0]
    edges = {f"{name}_{end}" for name in first.metrics for end in ("low", "high")}  # intervals of one run each
    shared = [name for name in first.metrics if name not in edges and all(name in each.metrics for each in results)]
    metrics: dict[str, float] = {}
    for name in shared:
        interval = bootstrap([each.metrics[name] for each in results])
        metrics[name] = interval.mean
        if interval.low is not None and interval.high is not None:
            metrics |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    costs = [each.cost_usd for each in results if each.cost_usd is not None]
    peaks = [each.peak_memory_gib for each in results if each.peak_memory_gib is not None]
    said = f"mean of {len(results)} seeds" + (
        f" of {planned}: worse than the best for certain" if len(results) < planned else ""
    )
    return replace(
        first,
        status=Status.finished,
        message=said,
        metrics=metrics,
        seconds=sum(each.seconds for each in results),
        cost_usd=sum(costs) if costs else None,
        peak_memory_gib=max(peaks) if peaks else None,
    )


def _t_half(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean."""
    freedom = len(values) - 1
    t = T95[freedom - 1] if freedom <= len(T95) else 1.96
    return t * statistics.stdev(values) / math.sqrt(len(values))
