"""Which points under several seeds may be ranked against each other, and by what.

The mean over two seeds and that over three differ by what the third seed does to every point, so points are ranked on seeds
that all of them ran under.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from rlhf.result import Result

HOPELESS = "worse than the best for certain"
"""In the message of a point that got fewer seeds than the others."""

Measured = Mapping[str, float]


def was_hopeless(result: Result) -> bool:
    """Whether a point got no further seeds since it was worse than the best one: it is never called the best itself."""
    return HOPELESS in result.message


def on_common_seeds(points: Sequence[tuple[Measured, Mapping[int, Measured]]]) -> list[Measured]:
    """What each point is ranked by, from what it came to and what each of its runs measured, by seed.

    What it came to, if all points have the same seeds or share none; else its means over those that all of them ran under.
    """
    seeds = [runs.keys() for _, runs in points]
    common = set.intersection(*map(set, seeds)) if seeds else set()
    if not common or all(each == common for each in seeds):
        return [own for own, _ in points]
    return [{**own, **means([runs[seed] for seed in common])} for own, runs in points]


def means(runs: Sequence[Measured]) -> dict[str, float]:
    """The mean of each metric that all ``runs`` measured."""
    return {name: fmean(each[name] for each in runs) for name in runs[0] if all(name in each for each in runs)}
