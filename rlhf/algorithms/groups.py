"""Advantages of responses that are judged beside others to the same prompt. Shapes: G prompts with K responses each."""

import torch
from torch import Tensor

from rlhf.algorithms.masks import masked_sum
from rlhf.config import AdvantageScale

LEAST_DEVIATION = 1e-4
"""Added to a deviation before it divides, so that a group of equal scores has no advantages instead of no number."""


def leave_one_out(scores_GK: Tensor) -> Tensor:
    """Advantages [G, K]: each score minus the mean of the others' (Kool et al. 2019; Ahmadian et al. 2024, equation 6).

    The baseline does not depend on the response it judges, so the gradient stays unbiased. K must be at least 2.
    """
    count = scores_GK.shape[1]
    return (scores_GK - scores_GK.mean(1, keepdim=True)) * count / (count - 1)


def group_relative(scores_GK: Tensor, scale: AdvantageScale) -> Tensor:
    """Advantages [G, K]: each score minus its group's mean, over a deviation (Shao et al. 2024, section 4.1.2).

    Deviations are those of a sample, with K - 1; of the batch, with G K - 1.
    """
    centred = scores_GK - scores_GK.mean(1, keepdim=True)
    match scale:
        case AdvantageScale.group:
            return centred / (scores_GK.std(1, keepdim=True) + LEAST_DEVIATION)
        case AdvantageScale.batch:
            return centred / (scores_GK.std() + LEAST_DEVIATION)
        case AdvantageScale.none:
            return centred


def clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """The smaller of the plain and the clipped surrogate (Schulman et al. 2017, equation 7), element by element.

    The ratio is clipped to [1 - ``low``, 1 + ``high``] (two bounds: Yu et al. 2025, equation 10).
    """
    return torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def sequence_log_ratio(log_ratio_BT: Tensor, mask_BT: Tensor, mean: bool) -> Tensor:
    """log pi / pi_old of whole responses, at each of their tokens [B, T].

    With ``mean`` it is divided by the number of tokens (GSPO; Zheng et al. 2025, equation 7).
    """
    total = log_ratio_BT.masked_fill(~mask_BT, 0.0).sum(1, keepdim=True)
    if mean:
        total = total / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return total.expand_as(log_ratio_BT)


def weighted_sum(values_BT: Tensor, mask_BT: Tensor, shares_B: Tensor) -> Tensor:
    """Sum over the tokens under the mask, those of a response times its share."""
    return masked_sum(values_BT * shares_B[:, None], mask_BT)
