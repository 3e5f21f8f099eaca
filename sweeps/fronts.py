"""Order among points with several values, of which less is better: NSGA-II's (Deb et al. 2002)."""

import math
from collections.abc import Sequence

from rlhf.constraint import dominates

Values = tuple[float, ...]
"""What a point has of each objective, less being better and infinity the worst."""


def fronts(points: Sequence[Values]) -> list[int]:
    """The front of each point, from 0: points that nothing dominates but what is in fronts before."""
    found = [-1] * len(points)
    left, front = set(range(len(points))), 0
    while left:
        first = {at for at in left if not any(dominates(points[other], points[at]) for other in left)}
        for at in first:
            found[at] = front
        left, front = left - first, front + 1
    return found


def crowding(points: Sequence[Values]) -> list[float]:
    """How far the neighbours of each point are on both sides, added up over the objectives as parts of their range.

    The points of one front; the ends of an objective are infinitely far. A value that is infinite adds nothing.
    """
    distances = [0.0] * len(points)
    for objective in range(len(points[0]) if points else 0):
        values = [point[objective] for point in points]
        order = sorted((at for at, value in enumerate(values) if math.isfinite(value)), key=lambda at: values[at])
        low, high = (values[order[0]], values[order[-1]]) if order else (0.0, 0.0)
        for place, at in enumerate(order if low < high else []):
            at_the_end = values[at] in (low, high)
            distances[at] += math.inf if at_the_end else (values[order[place + 1]] - values[order[place - 1]]) / (high - low)
    return distances


def better_than(own: Values, others: Sequence[Values]) -> int:
    """How many of ``others`` come before ``own``: in an earlier front, or in the same one and less crowded."""
    if len(own) == 1:
        return sum(other < own for other in others)
    points = [own, *others]
    front = fronts(points)
    beside = [at for at, each in enumerate(front) if each == front[0]]
    spread = dict(zip(beside, crowding([points[at] for at in beside]), strict=True))
    return sum(each < front[0] for each in front) + sum(spread[at] > spread[0] for at in beside)
