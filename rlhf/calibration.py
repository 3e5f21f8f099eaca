"""Whether a scorer's margins are the probabilities they stand for, and how far they go with length. Plain numbers, no torch.

A margin d says that the better answer is preferred with probability sigmoid(d) (Bradley and Terry 1952).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Pairs whose predicted probabilities lie together."""

    predicted: float
    """Mean probability that the scorer gives to the answer it prefers."""
    observed: float
    """Share of pairs in which people preferred that answer, too."""
    pairs: int


def reliability(margins: Sequence[float], bins: int = BINS) -> list[Bin]:
    """Pairs in ``bins`` equal parts of [1/2, 1] by the probability of the preferred answer; empty parts are left out.

    Args:
        margins: score of the better answer minus that of the worse.
    """
    parts: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for margin in margins:
        sure = 1 / (1 + math.exp(-min(abs(margin), 700.0)))
        right = 0.5 if margin == 0 else float(margin > 0)
        parts[min(int((sure - 0.5) * 2 * bins), bins - 1)].append((sure, right))
    return [
        Bin(sum(sure for sure, _ in part) / len(part), sum(right for _, right in part) / len(part), len(part))
        for part in parts
        if part
    ]


def expected_error(margins: Sequence[float], bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3): mean distance of predicted and observed, by pairs."""
    return sum(each.pairs * abs(each.predicted - each.observed) for each in reliability(margins, bins)) / len(margins)


def uncentred_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Cosine of two lists of differences; None where one of them is all zeros.

    Of differences between two answers no mean is taken off: which of them stands first is arbitrary.
    """
    norm = math.sqrt(math.fsum(a * a for a in first) * math.fsum(b * b for b in second))
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / norm if norm > 0 else None
