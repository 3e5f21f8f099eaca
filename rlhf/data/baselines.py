"""What cheap scorers reach on the same pairs: a reward model has learnt something only if it beats them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.data.records import Example

Z_95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""

VOCABULARY = 5000
"""Words the bag-of-words scorer knows: the most frequent of its training pairs."""

NEWTON_STEPS = 20
CONJUGATE_STEPS = 15
"""Of each Newton step; the system need not be solved exactly."""

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Accuracy:
    """How many pairs a scorer gets right."""

    right: float
    """Pairs that are right; one on which the scorer has no opinion counts one half."""
    total: int
    ties: int = 0
    """Pairs on which the scorer has no opinion."""

    @property
    def value(self) -> float:
        """Share of pairs that are right; NaN without pairs."""
        return self.right / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % Wilson interval of ``value``."""
        return wilson_interval(self.right, self.total)


def wilson_interval(successes: float, total: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927), inside [0, 1] also for few trials; (0, 1) for none."""
    if total == 0:
        return 0.0, 1.0
    share, spread = successes / total, Z_95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def longer_wins_accuracy(pairs: Sequence[Example]) -> Accuracy:
    """Accuracy of "the longer answer is the better one", by characters."""
    return _accuracy([len(chosen) - len(rejected) for chosen, rejected in map(_answers, pairs)])


def longer_wins_by_source(pairs: Sequence[Example]) -> dict[str, Accuracy]:
    """``longer_wins_accuracy`` of each source apart."""
    by_source: dict[str, list[Example]] = defaultdict(list)
    for example in pairs:
        by_source[example.source].append(example)
    return {source: longer_wins_accuracy(own) for source, own in by_source.items()}


def bayes_accuracy(pairs: Sequence[Example]) -> float | None:
    """Expected accuracy of the true reward, mean of max(p, 1 - p), over pairs with known probability; None without any."""
    known = [example.probability for example in pairs if example.probability is not None]
    return sum(max(p, 1 - p) for p in known) / len(known) if known else None


def bag_of_words_accuracy(train: Sequence[Example], held_out: Sequence[Example], l2: float = 1.0) -> Accuracy:
    """Accuracy on ``held_out`` of a logistic regression on differences of word counts, fitted to ``train``.

    The prompt is not seen. It minimises sum of log(1 + exp(-w . d)) + l2 / 2 |w|^2, with d the counts of the chosen answer
    minus those of the rejected one, by Newton's method.
    """
    differences = [_difference(example) for example in train]
    weights = _fit(differences, l2)
    margins = [sum(weights.get(word, 0.0) * count for word, count in _difference(example).items()) for example in held_out]
    return _accuracy(margins)


def _accuracy(margins: Sequence[float]) -> Accuracy:
    ties = sum(abs(margin) < 1e-9 for margin in margins)
    return Accuracy(sum(margin >= 1e-9 for margin in margins) + ties / 2, len(margins), ties)


def _answers(example: Example) -> tuple[str, str]:
    assert example.response is not None and example.rejected is not None, "a baseline wants pairs"
    return example.response, example.rejected


def _difference(example: Example) -> dict[str, int]:
    chosen, rejected = (Counter(re.findall(r"\w+|[^\w\s]", text.lower())) for text in _answers(example))
    counts = {word: chosen[word] - rejected[word] for word in chosen.keys() | rejected.keys()}
    return {word: counts[word] for word in sorted(counts) if counts[word]}


def _fit(differences: Sequence[dict[str, int]], l2: float) -> dict[str, float]:
    """Weights by word: Newton steps, solved by conjugate gradients on the sparse differences, halved if they overshoot."""
    seen = Counter(word for difference in differences for word in difference)
    words = sorted(seen, key=lambda word: (-seen[word], word))[:VOCABULARY]
    column_of = {word: column for column, word in enumerate(words)}
    entries = [
        (row, column_of[word], count)
        for row, difference in enumerate(differences)
        for word, count in difference.items()
        if word in column_of
    ]
    if not entries:
        return {}
    rows, columns, counts = (np.array(part) for part in zip(*entries, strict=True))
    sparse = _Sparse(rows, columns, counts.astype(np.float64), len(differences), len(words))
    weights = np.zeros(len(words))
    value, gradient, curvature = _objective(sparse, weights, l2)
    for _ in range(NEWTON_STEPS):
        if np.linalg.norm(gradient) < 1e-3 * math.sqrt(len(differences)):
            break
        step = _solve(sparse, curvature, l2, -gradient)
        scale = 1.0
        while (trial := _objective(sparse, weights + scale * step, l2))[0] > value and scale > 1e-6:
            scale /= 2
        weights = weights + scale * step
        value, gradient, curvature = trial
    return dict(zip(words, weights.tolist(), strict=True))


@dataclass(frozen=True)
class _Sparse:
    """A matrix of [height, width] by its entries."""

    rows: Indices
    columns: Indices
    values: Floats
    height: int
    width: int

    def times(self, vector: Floats) -> Floats:
        """[width] -> [height]"""
        return np.bincount(self.rows, self.values * vector[self.columns], self.height).astype(np.float64)

    def transposed_times(self, vector: Floats) -> Floats:
        """[height] -> [width]"""
        return np.bincount(self.columns, self.values * vector[self.rows], self.width).astype(np.float64)


def _objective(sparse: _Sparse, weights: Floats, l2: float) -> tuple[float, Floats, Floats]:
    """Value, gradient [width], and second derivative by margin [height]."""
    margins = sparse.times(weights)
    lost = 1 / (1 + np.exp(np.clip(margins, -500, 500)))
    value = float(np.logaddexp(0, -margins).sum() + l2 / 2 * weights @ weights)
    return value, l2 * weights - sparse.transposed_times(lost), lost * (1 - lost)


def _solve(sparse: _Sparse, curvature: Floats, l2: float, target: Floats) -> Floats:
    """(D' diag(curvature) D + l2) x = target, approximately, by conjugate gradients."""
    found, rest = np.zeros_like(target), target.copy()
    direction, size = rest.copy(), float(rest @ rest)
    for _ in range(CONJUGATE_STEPS):
        if size < 1e-12:
            break
        image = sparse.transposed_times(curvature * sparse.times(direction)) + l2 * direction
        length = size / float(direction @ image)
        found, rest = found + length * direction, rest - length * image
        size, before = float(rest @ rest), size
        direction = rest + size / before * direction
    return found
