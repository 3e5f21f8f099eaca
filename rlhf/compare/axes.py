"""Curves over steps, samples, tokens, time, money and KL, and what they come to where all have been."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf.compare import measures
from rlhf.compare.groups import Group
from rlhf.compare.subject import Subject
from rlhf.report.curves import number
from rlhf.report.paper import Point

AXES = {"step": "steps", "samples": "samples", "tokens": "tokens", "seconds": "seconds", "usd": "dollars"}
"""With what they count, for people."""
KL = "kl"
HELD_OUT_KL = ("eval/kl", ("reward/gain", "reward/gold_gain"))
TRAINING_KL = ("objective/kl", ("objective/scores",))
"""A KL to the policy that PPO started from, and the rewards measured with it."""
LEAST_EVALUATIONS = 3
"""Evaluations from which the held-out frontier is one."""
GRID = 64
"""Places at which a mean over the common range is taken."""
ENDS_ALIKE = 1e-9


@dataclass(frozen=True)
class Equal:
    """A metric of a group and of the base line at the same place of an axis: as far as the shorter of them has been."""

    metric: str
    axis: str
    letter: str
    low: float
    high: float
    """The range that all runs of both have been through; values are at its end."""
    base_value: float
    value: float
    base_mean: float
    mean: float
    """Over the whole range."""
    difference: measures.Difference


def metrics_of(groups: Sequence[Group]) -> list[str]:
    """Metrics whose curves are compared: headlines, the loss and, in PPO, the score and the KL of training."""
    wanted = dict.fromkeys(name for group in groups for name in measures.headlines(group.first.stage))
    names = [name for name in wanted if name not in measures.COSTS and not name.endswith("_correlation")]
    names += [name for name in ("objective/scores", "objective/kl", "loss", "loss/value_avg") if name not in wanted]
    return [name for name in names if any(sum(bool(_curves(each, name, axis)) for each in groups) > 1 for axis in AXES)]


def equals(groups: Sequence[Group], metrics: Sequence[str]) -> list[Equal]:
    """Every metric at equal steps, samples, tokens, time and money, and PPO's rewards at equal KL, group by group."""
    kl, rewards = kl_of(groups)
    places = [*((metric, axis, "") for metric in metrics for axis in axes_of(groups)), *((each, KL, kl) for each in rewards)]
    found = [equal(groups[0], other, *place) for place in places for other in groups[1:]]
    return [each for each in found if each is not None]


def axes_of(groups: Sequence[Group]) -> list[str]:
    """The axes that say different things: not samples where every step saw as many."""
    runs = [run for group in groups for run in group.members]
    alike = len({run.samples_a_round for run in runs}) == 1
    return [axis for axis in AXES if not (alike and axis == "samples")]


def kl_of(groups: Sequence[Group]) -> tuple[str, Sequence[str]]:
    """The KL by which runs are compared, held out where every run was evaluated often enough, and the rewards with it."""
    runs = [run for group in groups for run in group.members]
    for kl, rewards in (HELD_OUT_KL, TRAINING_KL):
        counts = [sum(row.get("kind") == "eval" and kl in row for row in run.rows) for run in runs]
        enough = all(count >= LEAST_EVALUATIONS for count in counts) if kl == HELD_OUT_KL[0] else True
        known = [name for name in rewards if sum(bool(_curves(each, name, KL, kl)) for each in groups) > 1]
        if enough and known:
            return kl, known
    return "", ()


def equal(base: Group, other: Group, metric: str, axis: str, kl: str = "") -> Equal | None:
    """``metric`` of both at the end of the range that their curves have in common; None if there is no such range."""
    these, those = (_curves(each, metric, axis, kl) for each in (base, other))
    if not (these and those):
        return None
    low = max(points[0][0] for points in [*these, *those])
    high = min(points[-1][0] for points in [*these, *those])
    if not high > low:
        return None
    runs = zip([*base.members, *other.members], [*these, *those], strict=True)
    read = {id(run): at(points, high) for run, points in runs}
    return Equal(
        metric=metric,
        axis=axis,
        letter=other.letter,
        low=low,
        high=high,
        base_value=fmean(at(points, high) for points in these),
        value=fmean(at(points, high) for points in those),
        base_mean=fmean(mean(points, low, high) for points in these),
        mean=fmean(mean(points, low, high) for points in those),
        difference=measures.of_values(metric, base, other, lambda run: read[id(run)]),
    )


def curve(run: Subject, metric: str, axis: str, kl: str = "") -> list[Point]:
    """The run's points (place on the axis, value), in order; held-out ones where the metric is held out.

    At ``axis="kl"`` they are its frontier: the best value reached with at most that much of the KL called ``kl``.
    """
    held_out = any(row.get("kind") == "eval" and metric in row for row in run.rows)
    tokens = 0.0
    points: dict[float, float] = {}
    for row in run.rows:
        tokens = number(row["progress/tokens"]) if "progress/tokens" in row else tokens
        if metric in row and (row.get("kind") == "eval") is held_out:
            place, value = _place(run, row, axis, tokens, kl), number(row[metric])
            if place is not None and math.isfinite(place) and math.isfinite(value):
                points[place] = max(value, points.get(place, -math.inf)) if axis == KL else value
    found = sorted(points.items())
    return frontier(found) if axis == KL else found


def frontier(points: Sequence[Point]) -> list[Point]:
    """Of (KL, value) in the order of KL: those with a better value than all before, and the last KL with the best value."""
    best: list[Point] = []
    for place, value in points:
        if not best or value > best[-1][1]:
            best.append((place, value))
    return [*best, (points[-1][0], best[-1][1])] if best and points[-1][0] > best[-1][0] else best


def at(points: Sequence[Point], place: float) -> float:
    """The value at ``place`` on the straight line between its neighbours. ``place`` is within the points, never outside."""
    after = bisect_right(points, place, key=lambda point: point[0])
    assert after > 0 and place <= points[-1][0], "nothing is read off a curve where it has not been"
    left = points[after - 1]
    if after == len(points):
        return left[1]
    right = points[after]
    return left[1] + (right[1] - left[1]) * (place - left[0]) / (right[0] - left[0])


def mean(points: Sequence[Point], low: float, high: float) -> float:
    """The mean value between ``low`` and ``high``, both within the points."""
    places = [low + (high - low) * step / GRID for step in range(GRID)] + [high]
    values = [at(points, place) for place in places]
    return (sum(values) - (values[0] + values[-1]) / 2) / GRID


def of_group(group: Group, metric: str, axis: str, kl: str = "") -> tuple[list[Point], list[tuple[float, float, float]]]:
    """The mean curve over seeds where all have been, and the lowest and highest of them; of one run its own and nothing."""
    curves = _curves(group, metric, axis, kl)
    if len(curves) < 2:
        return (curves[0] if curves else []), []
    low, high = max(points[0][0] for points in curves), min(points[-1][0] for points in curves)
    places = sorted({place for points in curves for place, _ in points if low <= place <= high})
    values = [[at(points, place) for points in curves] for place in places]
    line = [(place, fmean(each)) for place, each in zip(places, values, strict=True)]
    return line, [(place, min(each), max(each)) for place, each in zip(places, values, strict=True)]


def _curves(group: Group, metric: str, axis: str, kl: str = "") -> list[list[Point]]:
    """One a run; empty if any of them has fewer than two points."""
    curves = [curve(run, metric, axis, kl) for run in group.members]
    return curves if all(len(points) > 1 for points in curves) else []


def _place(run: Subject, row: dict[str, object], axis: str, tokens: float, kl: str) -> float | None:
    round_ = number(row.get("round"))
    match axis:
        case "step":
            return None if run.status == "published" else round_
        case "samples":
            return None if run.samples_a_round is None else round_ * run.samples_a_round
        case "tokens":
            return tokens if tokens or round_ == 0 else None
        case "seconds":
            return number(row["seconds"]) if "seconds" in row else None
        case "usd":
            priced = run.usd_per_second is not None and "seconds" in row
            return number(row["seconds"]) * (run.usd_per_second or 0.0) if priced else None
        case _:
            return number(row[kl]) if kl in row else None
