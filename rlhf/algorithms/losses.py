"""Losses, as sums over the units they average (tokens or pairs).

The caller divides by the number of units in the whole batch, so that cutting a batch into micro-batches or spreading it
over ranks cannot change the objective.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf.algorithms.masks import masked_sum


def sft_loss(logprobs_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Negative log-likelihood of the tokens under the mask, summed."""
    return -masked_sum(logprobs_BT, mask_BT)


def pairwise_loss(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """Bradley-Terry: the sum of -log sigmoid(chosen - rejected) (Ouyang et al. 2022, equation 1, for one pair a prompt)."""
    return -F.logsigmoid(chosen_B - rejected_B).sum()


def tokenwise_loss(chosen_BT: Tensor, rejected_BT: Tensor, span_BT: Tensor) -> Tensor:
    """The pairwise loss on each token of a span, averaged over the span and summed over pairs (DeepSpeed-Chat).

    Every row of the span needs a true column.
    """
    losses_BT = -F.logsigmoid(chosen_BT - rejected_BT).masked_fill(~span_BT, 0.0)
    return (losses_BT.sum(1) / span_BT.sum(1)).sum()


def squared_scores(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """Sum over pairs of the mean squared score of their two answers."""
    return 0.5 * (chosen_B.square() + rejected_B.square()).sum()


def ppo_policy_loss(
    logprobs_BR: Tensor, old_logprobs_BR: Tensor, advantages_BR: Tensor, mask_BR: Tensor, clip_range: float
) -> Tensor:
    """Clipped surrogate (Schulman et al. 2017, equation 7), negated and summed over the mask."""
    ratio = policy_ratio(logprobs_BR, old_logprobs_BR, mask_BR)
    unclipped = advantages_BR * ratio
    clipped = advantages_BR * ratio.clamp(1 - clip_range, 1 + clip_range)
    return -masked_sum(torch.minimum(unclipped, clipped), mask_BR)


def policy_ratio(logprobs_BR: Tensor, old_logprobs_BR: Tensor, mask_BR: Tensor) -> Tensor:
    """pi / pi_old for each token; 1 outside the mask."""
    return (logprobs_BR - old_logprobs_BR).masked_fill(~mask_BR, 0.0).exp()


def value_loss(
    values_BR: Tensor, old_values_BR: Tensor, returns_BR: Tensor, mask_BR: Tensor, clip_range: float | None
) -> Tensor:
    """Half the squared error, summed over the mask; with a clip range the larger of the plain and the clipped error."""
    error = (values_BR - returns_BR) ** 2
    if clip_range is not None:
        clipped = old_values_BR + (values_BR - old_values_BR).clamp(-clip_range, clip_range)
        error = torch.maximum(error, (clipped - returns_BR) ** 2)
    return 0.5 * masked_sum(error, mask_BR)
