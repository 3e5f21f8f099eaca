"""95 % intervals of a difference of means: over prompts that both answered, over seeds, or none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, variance

import numpy as np

CONFIDENCE = 0.95
BOOTSTRAP_FROM = 5
"""Seeds a side from which the interval is taken from resampled means instead of Student's distribution."""
RESAMPLES = 10_000
LARGEST = 13.0
"""Above the 97.5 % quantile for 1 degree of freedom, 12.706."""
STRIPS = 400


@dataclass(frozen=True)
class Interval:
    """A mean difference with the ends of its 95 % interval, and what it was taken over."""

    value: float
    low: float
    high: float
    method: str

    @property
    def decided(self) -> bool:
        """Whether 0 is outside."""
        return self.low > 0 or self.high < 0


def paired(differences: Sequence[float], unit: str) -> Interval:
    """Of the mean of at least two ``differences`` between things that belong together; ``unit`` names one of them."""
    return _of_one(differences, f"paired over {len(differences)} {unit}")


def weighed(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Values whose plain mean is the mean of ``values`` with ``weights``, and whose spread gives that mean's standard error.

    The linearised ratio estimator (Cochran 1977, section 6.3): w / mean(w) times the deviation from the weighted mean.
    """
    total = sum(weights)
    middle = sum(value * weight for value, weight in zip(values, weights, strict=True)) / total
    return [middle + weight * len(values) / total * (value - middle) for value, weight in zip(values, weights, strict=True)]


def paired_seeds(differences: Sequence[float]) -> Interval:
    """As ``paired``, over runs of the same seeds; by bootstrap from five seeds on."""
    told = f"paired over {len(differences)} seeds"
    if len(differences) < BOOTSTRAP_FROM:
        return _of_one(differences, told)
    low, high = _ends(_resampled(differences, 0))
    return Interval(fmean(differences), low, high, f"{told}, bootstrap")


def apart(those: Sequence[float], base: Sequence[float]) -> Interval:
    """Mean of ``those`` minus that of ``base``, at least two each, of different seeds (Welch 1947); bootstrap from five on."""
    value, told = fmean(those) - fmean(base), f"over {len(those)} and {len(base)} seeds"
    if min(len(those), len(base)) >= BOOTSTRAP_FROM:
        low, high = _ends(_resampled(those, 0) - _resampled(base, 1))
        return Interval(value, low, high, f"{told}, bootstrap")
    parts = [variance(each) / len(each) for each in (those, base)]
    if sum(parts) == 0:
        return Interval(value, value, value, told)
    degrees = sum(parts) ** 2 / sum(part**2 / (len(each) - 1) for part, each in zip(parts, (those, base), strict=True))
    half = student_t(degrees) * math.sqrt(sum(parts))
    return Interval(value, value - half, value + half, told)


def of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Ends of the interval of the mean over seeds; none for fewer than two."""
    if len(values) < 2:
        return None
    found = paired_seeds(values)
    return found.low, found.high


@lru_cache
def student_t(degrees: float) -> float:
    """97.5 % quantile of Student's distribution with ``degrees`` of freedom, at least 1, to four digits."""
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    low, high = 0.0, LARGEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        step = middle / STRIPS
        heights = [(1 + (place * step) ** 2 / degrees) ** (-(degrees + 1) / 2) for place in range(STRIPS + 1)]
        area = scale * step / 3 * (heights[0] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]) + heights[-1])  # Simpson
        low, high = (middle, high) if area < CONFIDENCE / 2 else (low, middle)
    return (low + high) / 2


def _of_one(differences: Sequence[float], told: str) -> Interval:
    value = fmean(differences)
    half = student_t(len(differences) - 1) * math.sqrt(variance(differences) / len(differences))
    return Interval(value, value - half, value + half, told)


def _resampled(values: Sequence[float], stream: int) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Means of as many draws with replacement as there are values; the same ones each time."""
    drawn = np.random.default_rng(stream).choice(np.asarray(values, dtype=np.float64), (RESAMPLES, len(values)))
    return drawn.mean(axis=1)


def _ends(means: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
