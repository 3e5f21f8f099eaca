"""From scores to per-token rewards, and from rewards and values to advantages."""

import torch
from torch import Tensor

from rlhf.algorithms.masks import last_true


def token_rewards(scores_B: Tensor, kl_BR: Tensor, mask_BR: Tensor, kl_coef: float) -> Tensor:
    """Per-token rewards [B, R]: -kl_coef * kl on every response token, the score added on the last one.

    The last token under the mask is the end marker where there is one, so the decision to stop is rewarded and trained.
    """
    rewards = (-kl_coef * kl_BR).masked_fill(~mask_BR, 0.0)
    last = last_true(mask_BR)
    return rewards.scatter_add(1, last[:, None], scores_B[:, None].to(rewards.dtype))


def gae(rewards_BR: Tensor, values_BR: Tensor, mask_BR: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, equation 16) over each row's tokens under the mask.

    Responses start in column 0 and are followed by padding; the value after the last token is 0.

    Returns:
        advantages [B, R] and returns [B, R] = advantages + values, both 0 outside the mask.
    """
    values = values_BR.masked_fill(~mask_BR, 0.0)
    rewards = rewards_BR.masked_fill(~mask_BR, 0.0)
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(running)
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = (delta + gamma * lam * running) * mask_BR[:, t]
        advantages[:, t] = running
        following = values[:, t]
    return advantages, (advantages + values).masked_fill(~mask_BR, 0.0)
