"""Comparisons as rows of tokens, and how well a scorer orders answers, beside what cheap scorers reach on the same ones."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.calibration import expected_error, uncentred_correlation
from rlhf.data.baselines import bag_of_words_accuracy, bayes_accuracy, longer_wins_accuracy, wilson_interval
from rlhf.data.records import Example
from rlhf.metrics import Mean, Metric, Total
from rlhf.stages.batches import Ranked
from rlhf.stages.examples import tokens_of
from rlhf.stages.shown import Marked


def ranked(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int, cache: Path | None, rated: bool = False
) -> list[Ranked | None]:
    """All answers of each example, best first; None where one does not fit or nothing can be learnt.

    Args:
        rated: what is learnt is how answers were rated, so one is enough; else there must be two that differ.
    """
    rows = tokens_of(tokenizer, examples, [example.answers for example in examples], max_length, cache)
    found: list[Ranked | None] = []
    for example, row in zip(examples, rows, strict=True):
        ratings = example.ratings
        learns = ratings is not None if rated else len(example.answers) > 1
        if row is None or not learns or any(first == second for first, second in zip(row, row[1:], strict=False)):
            found.append(None)
        else:
            found.append(Ranked(tuple(row), example.margin or 0.0, ratings or ()))
    return found


def marked(row: Ranked | None) -> list[Marked] | None:
    """The answers of a row with what is learnt of them, for showing."""
    if row is None:
        return None
    return [(prompt + response, [(len(prompt), len(prompt) + len(response))]) for prompt, response in row.answers]


def ordering(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> dict[str, Metric]:
    """How often and by how much the best answer of each example scores above its worst, how well that is meant, and list order.

    Args:
        scores: of the answers of each example, best first; at least two.
    """
    chosen, rejected = ends(scores)
    correct = right(chosen, rejected)
    metrics: dict[str, Metric] = {"eval/accuracy": Mean.of(correct), "rewards/margins": Mean.of(chosen - rejected)}
    metrics |= calibration(examples, (chosen - rejected).tolist())
    return metrics | by_source(examples, correct) | by_place(examples, scores) | rank_correlation(scores)


def calibration(examples: Sequence[Example], margins: Sequence[float]) -> dict[str, Metric]:
    """The error of the probabilities, and how margins, and people's choices, go with the difference in length (characters)."""
    longer = [float(len(example.response or "") - len(example.rejected or "")) for example in examples]
    correlations = {
        "eval/length_correlation": uncentred_correlation(margins, longer),
        "baseline/length_correlation": uncentred_correlation([1.0] * len(longer), longer),
    }
    told: dict[str, Metric] = {name: Mean(value, 1) for name, value in correlations.items() if value is not None}
    return {"eval/calibration_error": Mean(expected_error(margins), 1)} | told


def ends(scores: Sequence[Sequence[float]]) -> tuple[Tensor, Tensor]:
    """The scores [N] of the best answers and those of the worst."""
    chosen, rejected = (torch.tensor([each[side] for each in scores]) for side in (0, -1))
    return chosen, rejected


def samples(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> list[dict[str, str | float]]:
    """Rows for ``samples.jsonl``: prompt, best and worst answer with their scores."""
    return [
        {"prompt": example.turns[-1].text, "chosen": example.response or "", "rejected": example.rejected or ""}
        | {"score_chosen": each[0], "score_rejected": each[-1]}
        for example, each in zip(examples, scores, strict=True)
    ]


def right(better: Tensor, worse: Tensor) -> Tensor:
    """1 where the better answer scores higher, 1/2 where both score the same, else 0."""
    return (better > worse).float() + 0.5 * (better == worse).float()


def separation(good: Tensor, bad: Tensor) -> float:
    """Share of couples of a good and a bad answer whose good one scores higher, ties half: the area under the ROC curve."""
    return right(good[:, None], bad[None, :]).mean().item()


def kendall_tau(scores: Sequence[float]) -> float:
    """Pairs in order minus pairs out of order, as a share of all; ``scores`` of answers from best to worst, at least two."""
    pairs = list(combinations(scores, 2))
    return sum((first > second) - (first < second) for first, second in pairs) / len(pairs)


def spearman_rho(scores: Sequence[float]) -> float:
    """Correlation of ranks, equal scores sharing the mean of theirs; ``scores`` from best to worst. 0 where all are equal."""
    count = len(scores)
    ranks = [sum(other < each for other in scores) + (sum(other == each for other in scores) - 1) / 2 for each in scores]
    middle = (count - 1) / 2
    ours = [rank - middle for rank in ranks]
    theirs = [middle - place for place in range(count)]
    norm = math.sqrt(math.fsum(a * a for a in ours) * math.fsum(b * b for b in theirs))
    return math.fsum(a * b for a, b in zip(ours, theirs, strict=True)) / norm if norm else 0.0


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


def by_place(examples: Sequence[Example], scores: Sequence[Sequence[float]]) -> dict[str, Metric]:
    """For each source whose rows keep an order: how often people, and the scorer, prefer the answer that stood earlier.

    A source is left out whose rows all stand in the order of their ranks, or all against it: it was sorted. The 95 %
    intervals count a list as one trial, for which they are rather too wide.
    """
    shares: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for example, each in zip(examples, scores, strict=True):
        if example.places:
            shares[example.source].append(earlier_wins(example.places, each))
    metrics: dict[str, Metric] = {}
    for source, both in shares.items():
        people, scorer = (math.fsum(column) for column in zip(*both, strict=True))
        if people in (0.0, float(len(both))):
            continue
        for kind, name, total in (("baseline", "first_wins", people), ("eval", "first_preferred", scorer)):
            low, high = wilson_interval(total, len(both))
            metrics |= {f"{kind}/{name}/{source}": Mean(total, len(both))}
            metrics |= {f"{kind}/{name}_low/{source}": Mean(low, 1), f"{kind}/{name}_high/{source}": Mean(high, 1)}
    return metrics


def earlier_wins(places: Sequence[int], scores: Sequence[float]) -> tuple[float, float]:
    """The share of pairs in which people, and the scorer, prefer the answer that stood earlier; equal scores count half.

    Args:
        places: where each answer stood, best answer first.
        scores: of the answers in the same order.
    """
    pairs = list(combinations(zip(places, scores, strict=True), 2))
    people = [float(better[0] < worse[0]) for better, worse in pairs]
    agrees = [(better[1] > worse[1]) + 0.5 * (better[1] == worse[1]) for better, worse in pairs]
    scorer = [agree if first else 1 - agree for first, agree in zip(people, agrees, strict=True)]
    return math.fsum(people) / len(pairs), math.fsum(scorer) / len(pairs)


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
    """Mean of Kendall's tau and of Spearman's rho over lists of more than two answers, best first; nothing without one."""
    lists = [each for each in scores if len(each) > 2]
    if not lists:
        return {}
    return {
        "eval/kendall_tau": Mean(math.fsum(map(kendall_tau, lists)), len(lists)),
        "eval/spearman_rho": Mean(math.fsum(map(spearman_rho, lists)), len(lists)),
    }
