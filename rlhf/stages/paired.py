"""The mean of paired differences with its 95 % interval."""

import math
from collections.abc import Sequence

from rlhf.metrics import Mean, Metric

Z95 = 1.959964


def paired_gain(name: str, differences: Sequence[float]) -> dict[str, Metric]:
    """``name`` is the mean of ``differences``; given two, ``name_low`` and ``name_high`` are 1.96 standard errors off."""
    count = len(differences)
    mean = sum(differences) / count
    metrics: dict[str, Metric] = {name: Mean(mean, 1)}
    if count > 1:
        variance = sum((each - mean) ** 2 for each in differences) / (count - 1)
        half = Z95 * math.sqrt(variance / count)
        metrics |= {f"{name}_low": Mean(mean - half, 1), f"{name}_high": Mean(mean + half, 1)}
    return metrics
