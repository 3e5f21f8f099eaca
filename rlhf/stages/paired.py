"""How much better one policy's answers are than another's to the same prompts under the same noise."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf.algorithms.best_of import expected_best, kl_bound
from rlhf.metrics import Mean, Metric
from rlhf.stages.answers import Answers

Z95 = 1.959964


def paired_gain(name: str, differences: Sequence[float], of: str = "") -> dict[str, Metric]:
    """``name`` is the mean of ``differences``; given two, ``name_low`` and ``name_high`` are 1.96 standard errors off.

    ``of`` ends all three names.
    """
    count = len(differences)
    mean = sum(differences) / count
    metrics: dict[str, Metric] = {f"{name}{of}": Mean(mean, 1)}
    if count > 1:
        variance = sum((each - mean) ** 2 for each in differences) / (count - 1)
        half = Z95 * math.sqrt(variance / count)
        metrics |= {f"{name}_low{of}": Mean(mean - half, 1), f"{name}_high{of}": Mean(mean + half, 1)}
    return metrics


def reward_gain(scores: Tensor, scores_before: Tensor, deviation: float) -> dict[str, Metric]:
    """Gain in the reward, in deviations of raw scores.

    Args:
        scores: raw scores [N], and ``scores_before`` those of the other policy's answers.
        deviation: the unit of the gain.
    """
    return paired_gain("reward/gain", ((scores - scores_before) / deviation).tolist())


def gold_gains(answers: Answers, before: Answers, scores: Tensor | None) -> dict[str, Metric]:
    """Gain in the known reward where the data has one, and how well raw ``scores`` [N] of ``answers`` follow it."""
    if answers.gold is None or before.gold is None:
        return {}
    gold, gold_before = torch.tensor(answers.gold), torch.tensor(before.gold)
    metrics = paired_gain("reward/gold_gain", (gold - gold_before).tolist())
    if len(gold) > 1:
        metrics["reward/gold_sd_sft"] = Mean(gold_before.std().item(), 1)
    if scores is not None and (correlation := _correlation(scores.cpu(), gold)) is not None:
        metrics["reward/gold_correlation"] = Mean(correlation, 1)
    return metrics


def best_of_gains(scores: Tensor, gold: Tensor | None, deviation: float) -> dict[str, Metric]:
    """What the best of N answers gains over any one of them, and under names that end in `/k` the best of k = 2, 4, ...

    Args:
        scores: raw scores [prompts, N], by which the best is chosen.
        gold: the known rewards [prompts, N]; None: there are none.
        deviation: the unit of the gain in scores.
    """
    count = scores.shape[1]
    metrics: dict[str, Metric] = {}
    for size in (*(2**power for power in range(1, count.bit_length()) if 2**power < count), count):
        of = "" if size == count else f"/{size}"
        metrics[f"best_of/kl_bound{of}"] = Mean(kl_bound(size), 1)
        for name, values in (("best_of/gain", scores / deviation), ("best_of/gold_gain", gold)):
            if values is not None:
                metrics |= paired_gain(name, (expected_best(scores, values, size) - values.mean(1)).tolist(), of)
    return metrics


def _correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    correlation = torch.corrcoef(torch.stack([first.float(), second.float()]))[0, 1].item() if len(first) > 1 else math.nan
    return correlation if math.isfinite(correlation) else None
