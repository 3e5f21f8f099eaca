"""The mean of paired differences with its 95 % interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.metrics import Mean

Z95 = 1.959964


@dataclass(frozen=True)
class Gain:
    """A mean difference and the ends of its normal 95 % interval."""

    mean: Mean
    low: Mean
    high: Mean


def paired_gain(differences: Sequence[float]) -> Gain:
    """Mean of ``differences`` with mean +- 1.96 standard errors; the interval of a single difference is unbounded."""
    count = len(differences)
    mean = sum(differences) / count
    if count < 2:
        return Gain(Mean(mean, 1), Mean(-math.inf, 1), Mean(math.inf, 1))
    variance = sum((each - mean) ** 2 for each in differences) / (count - 1)
    half = Z95 * math.sqrt(variance / count)
    return Gain(Mean(mean, 1), Mean(mean - half, 1), Mean(mean + half, 1))
