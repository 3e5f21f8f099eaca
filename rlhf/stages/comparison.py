"""How well a scorer orders answers, beside what cheap scorers reach on the same ones."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from rlhf.data.baselines import bag_of_words_accuracy, bayes_accuracy, longer_wins_accuracy, wilson_interval
from rlhf.data.records import Example
from rlhf.metrics import Mean, Metric, Total


def right(better: Tensor, worse: Tensor) -> Tensor:
    """1 where the better answer scores higher, 1/2 where both score the same, else 0."""
    return (better > worse).float() + 0.5 * (better == worse).float()


def kendall_tau(scores: Sequence[float]) -> float:
    """Pairs in order minus pairs out of order, as a share of all; ``scores`` of answers from best to worst, at least two."""
    pairs = list(combinations(scores, 2))
    return sum((first > second) - (first < second) for first, second in pairs) / len(pairs)


def by_source(examples: Sequence[Example], right_B: Tensor) -> dict[str, Metric]:
    """Accuracy of each source with its 95 % interval, beside that of "the longer answer wins"."""
    places: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        places[example.source].append(index)
    metrics: dict[str, Metric] = {}
    for source, indices in places.items():
        low, high = wilson_interval(right_B[indices].sum().item(), len(indices))
        longer = longer_wins_accuracy([examples[index] for index in indices])
        metrics |= {
            f"eval/accuracy/{source}": Mean.of(right_B[indices]),
            f"eval/accuracy_low/{source}": Mean(low, 1),
            f"eval/accuracy_high/{source}": Mean(high, 1),
            f"eval/pairs/{source}": Total(len(indices)),
            f"baseline/longer_wins/{source}": Mean(longer.right, longer.total),
        }
    return metrics


def cheap_scorers(train: Sequence[Example], examples: Sequence[Example]) -> dict[str, Metric]:
    """What length, a bag of words and, where it is known, the true reward reach on the same pairs."""
    longer = longer_wins_accuracy(examples)
    words = bag_of_words_accuracy([each for each in train if each.rejected is not None], examples)
    metrics: dict[str, Metric] = {
        "baseline/longer_wins": Mean(longer.right, longer.total),
        "baseline/bag_of_words": Mean(words.right, words.total),
    }
    if (bayes := bayes_accuracy(examples)) is not None:
        metrics["baseline/bayes"] = Mean(bayes, 1)
    return metrics


def rank_correlation(scores: Sequence[Sequence[float]]) -> dict[str, Metric]:
    """Mean Kendall's tau over lists of more than two answers, each from best to worst; nothing without one."""
    taus = [kendall_tau(each) for each in scores if len(each) > 2]
    return {"eval/kendall_tau": Mean.of(torch.tensor(taus))} if taus else {}
