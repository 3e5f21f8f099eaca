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


def pairwise_loss(better_P: Tensor, worse_P: Tensor, share_P: Tensor) -> Tensor:
    """Bradley-Terry: the sum of -share * log sigmoid(better - worse) (Ouyang et al. 2022, equation 1).

    ``share_P`` is 1 / (K choose 2) for each pair of a prompt with K answers, so that prompts count alike. Touvron et al.
    2023, equation 2, take a margin from ``better_P``.
    """
    return -(share_P * F.logsigmoid(better_P - worse_P)).sum()


def tokenwise_loss(better_PT: Tensor, worse_PT: Tensor, span_PT: Tensor, share_P: Tensor) -> Tensor:
    """The pairwise loss on each token of a span, averaged over the span and summed over pairs (DeepSpeed-Chat).

    Every row of the span needs a true column.
    """
    losses_PT = -F.logsigmoid(better_PT - worse_PT).masked_fill(~span_PT, 0.0)
    return (share_P * losses_PT.sum(1) / span_PT.sum(1)).sum()


def best_of_list_loss(scores_N: Tensor, prompt_N: Tensor, rank_N: Tensor) -> Tensor:
    """Cross-entropy of the best answer (rank 0) among the softmax of its prompt's scores, summed over prompts.

    For two answers it is the pairwise loss. Prompts are numbered from 0, each with one best answer.
    """
    count = int(prompt_N.max()) + 1
    table_BK = scores_N.new_full((count, int(rank_N.max()) + 1), -torch.inf).index_put((prompt_N, rank_N), scores_N)
    return -table_BK.log_softmax(1)[:, 0].sum()


def rating_loss(scores_N: Tensor, ratings_N: Tensor, share_N: Tensor) -> Tensor:
    """Squared error of scores against ratings, averaged over the answers of a prompt and summed over prompts."""
    return (share_N * (scores_N - ratings_N) ** 2).sum()


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
