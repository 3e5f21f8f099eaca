"""A point of a study run under several seeds: its mean with an interval, and whether more seeds are worth their price.

Every point uses the same seeds in the same order (common random numbers), so two points are compared by their differences
seed by seed.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launchers.trial import REUSED
from rlhf.compare.intervals import of_mean, paired_seeds
from rlhf.compare.seeds import HOPELESS, was_hopeless
from rlhf.result import Objective, Result, Status
from sweeps.goal import measurements

MEAN = "mean of "
"""How the message of a point under several seeds begins."""


def is_hopeless(values: Mapping[int, float], best: Mapping[int, float], objective: Objective) -> bool:
    """Whether a point with ``values`` by seed is surely worse than the best one: on the seeds both have, the 95 % interval
    of the difference lies wholly on the worse side. Never after a single seed."""
    sign = 1.0 if objective.direction == "minimize" else -1.0
    worse_by = [sign * (values[seed] - best[seed]) for seed in values if seed in best]
    return len(worse_by) >= 2 and paired_seeds(worse_by).low > 0


def as_if_whole(values: Mapping[int, float], best: Mapping[int, float]) -> float:
    """The mean of a hopeless point if it were worse than the best one by as much on the seeds that it did not get."""
    return statistics.fmean(best.values()) + statistics.fmean(values[seed] - best[seed] for seed in values if seed in best)


def are_distinguishable(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    """Whether two points differ: whether the 95 % interval of their differences on two or more common seeds leaves out 0."""
    common = [first[seed] - second[seed] for seed in first if seed in second]
    return len(common) >= 2 and paired_seeds(common).decided


def by_seed(runs: Mapping[int, Result], metric: str) -> dict[int, float]:
    """``metric`` of each of ``runs``, by seed."""
    values = {seed: measurements(each).get(metric, math.nan) for seed, each in runs.items()}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def lacking(trial: Path, seeds: Sequence[int]) -> list[int]:
    """Those of several ``seeds`` under which a trial that finished, in folder ``trial``, is yet to run.

    None of one that was hopeless after fewer, or that never ran under the first of them: it is of another study's seeds.
    """
    whole = Result.read(trial / "result.json")
    if len(seeds) < 2 or whole is None or whole.status is not Status.finished or was_hopeless(whole):
        return []
    known = {*finished(trial)} or {whole.seed}
    return [seed for seed in seeds if seed not in known] if seeds[0] in known else []


def kept_apart(trial: Path) -> dict[int, Result]:
    """The finished runs of a trial that finished, or was cut off, by seed; the only run of one that finished is moved into the
    folder of its seed."""
    whole = Result.read(trial / "result.json")
    if whole is None or whole.status not in (Status.finished, Status.stopped, Status.lost):
        return {}
    if whole.status is Status.finished and not any(folder.name.isdigit() for folder in trial.glob("*/")):
        own = trial / str(whole.seed)
        own.mkdir()
        for file in [each for each in trial.iterdir() if each.is_file()]:
            file.rename(own / file.name)
    return finished(trial)


def runs_of(trial: Path, result: Result) -> dict[int, Result]:
    """The runs that a trial which finished is made of, by seed: one, or one for each of several."""
    return finished(trial) or {result.seed: result}


def finished(trial: Path) -> dict[int, Result]:
    """The finished runs of a trial under several seeds, by seed."""
    return {seed: each for seed, each in ended(trial).items() if each.status is Status.finished}


def ended(trial: Path) -> dict[int, Result]:
    """The runs of a trial under several seeds that ended, however they did, by seed."""
    found = {int(folder.name): Result.read(folder / "result.json") for folder in trial.glob("*/") if folder.name.isdigit()}
    return {seed: each for seed, each in sorted(found.items()) if each is not None}


def with_seeds(result: Result, others: Iterable[Result]) -> Result:
    """The result of a point from that of the seed it ended with, having taken what the ``others`` took too."""
    both = [result, *others]
    costs = _costs(both)
    total = replace(result, seconds=sum(each.seconds for each in both), cost_usd=sum(costs) if costs else None)
    return total if len(both) == 1 else replace(total, metrics=result.metrics | _a_run(both))


def is_mean(result: Result) -> bool:
    """Whether it is what ``joined`` made of several seeds."""
    return result.message.startswith(MEAN) and not result.message.startswith(f"{MEAN}1 ")


def joined(results: Sequence[Result], planned: int) -> Result:
    """The result of a point from those of its seeds, all finished: means, with intervals, and what all of them took."""
    first = results[0]
    edges = {f"{name}_{end}" for name in first.metrics for end in ("low", "high")}  # intervals of one run each
    shared = [name for name in first.metrics if name not in edges and all(name in each.metrics for each in results)]
    metrics: dict[str, float] = {}
    for name in shared:
        values = [each.metrics[name] for each in results]
        metrics[name] = statistics.fmean(values)
        if (ends := of_mean(values)) is not None:
            metrics |= {f"{name}_low": ends[0], f"{name}_high": ends[1]}
    costs = _costs(results)
    peaks = [each.peak_memory_gib for each in results if each.peak_memory_gib is not None]
    fewer = f" of {planned}: {HOPELESS}" if len(results) < planned else ""
    before = sum(REUSED in each.message for each in results)
    reused = f"; {before} of them: {REUSED}" if before else ""
    return replace(
        first,
        status=Status.finished,
        message=f"{MEAN}{len(results)} seeds{fewer}{reused}",
        metrics=metrics | _a_run(results),
        seconds=sum(each.seconds for each in results),
        cost_usd=sum(costs) if costs else None,
        peak_memory_gib=max(peaks) if peaks else None,
    )


def _costs(results: Sequence[Result]) -> list[float]:
    return [each.cost_usd for each in results if each.cost_usd is not None]


def _a_run(results: Sequence[Result]) -> dict[str, float]:
    """What one of ``results`` took on average, as points of several numbers of seeds are weighed by."""
    costs = _costs(results)
    took = {"time/seconds": statistics.fmean(each.seconds for each in results)}
    return took | ({"cost/usd": statistics.fmean(costs)} if costs else {})
