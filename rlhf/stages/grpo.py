"""Group-relative policy optimisation (Shao et al. 2024), and what Dr. GRPO, DAPO and GSPO made of it.

    advantage  A_i = (s_i - mean of the group) / deviation of the group                     (equation in section 4.1.2)
    loss       - mean over responses of mean over tokens of min(rho A, clip(rho) A) - kl_coef * k3      (equation 3)

                       grpo.scale_by   grpo.weighting   grpo.ratio   further
    GRPO               group           sequence         token
    Dr. GRPO           none            constant         token        kl_coef=0              (Liu et al. 2025)
    DAPO               group           token            token        kl_coef=0, clip_range_high=0.28, overlong_tokens,
                                                                     max_resamples          (Yu et al. 2025)
    GSPO               group           sequence         sequence     clip ranges of 3e-4    (Zheng et al. 2025)

As options: `grpo=dr_grpo`, `grpo=dapo`, `grpo=gspo`. The gradient of k3 in the loss is, at the policy that sampled, that of
KL(pi_SFT || pi) and not of KL(pi || pi_SFT), so the optimum is pi_SFT kl_coef / (lambda - s) with lambda such that it sums
to 1; `grpo.kl_in_reward=true` has that of `rloo`. Dividing by the deviation of the group weighs prompts whose scores
differ little as much as others. All else is in `grouped`.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from rlhf.algorithms.groups import group_relative, sequence_log_ratio
from rlhf.config import GRPOConfig, PolicyRatio, TokenWeighting
from rlhf.lineage import READS
from rlhf.stages.grouped import Grouped, Scored
from rlhf.stages.interface import Setting
from rlhf.stages.online import Prompt


class GRPO(Grouped[GRPOConfig]):
    """Responses judged beside their group."""

    reads = READS["grpo"]
    name = "grpo"

    def __init__(self, setting: Setting) -> None:
        config = setting.run.grpo
        high = config.clip_range if config.clip_range_high is None else config.clip_range_high
        self.clip_ranges = (config.clip_range, high)
        self.kl_in_reward = config.kl_in_reward
        super().__init__(setting, config)

    def advantages(self, scores_GK: Tensor) -> Tensor:
        """Each score minus its group's mean, over the deviation of `scale_by`."""
        return group_relative(scores_GK, self._config.scale_by)

    def log_ratio(self, log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """That of each token, or the mean over the response's tokens."""
        if self._config.ratio is PolicyRatio.token:
            return log_ratio_BT
        return sequence_log_ratio(log_ratio_BT, mask_BT, mean=True)

    def weigh(self, lengths_B: Tensor, ended_B: Tensor) -> tuple[Tensor, Tensor]:
        """As `weighting` says; with `mask_truncated` the tokens of a response that was cut off weigh nothing."""
        ones = torch.ones_like(lengths_B, dtype=torch.float32)
        match self._config.weighting:
            case TokenWeighting.sequence:
                shares, units = 1 / lengths_B, ones
            case TokenWeighting.token:
                shares, units = ones, lengths_B.float()
            case TokenWeighting.constant:
                shares, units = ones, ones * self._run.rollout.max_new_tokens
        return (shares * ended_B if self._config.mask_truncated else shares), units

    def gather(self, update: int, prompts: Sequence[Prompt]) -> Scored:
        """Groups whose scores are all equal are replaced, a few times."""
        size, scored = self._config.group_size, super().gather(update, prompts)
        for attempt in range(1, self._config.max_resamples + 1):
            even = _even(scored.groups(size))
            if not even:
                break
            others = self.respond(self._online.other_prompts(len(even), update, attempt), f"rollout/{update}/{attempt}")
            teaching = sorted({*range(len(even))} - {*_even(others.groups(size))})
            scored = self.scored(*scored.with_groups(others, even[: len(teaching)], teaching, size))
        return scored

    def settle(self, scored: Scored) -> Scored:
        """Scores fall by up to 1 over the last `overlong_tokens` (Yu et al. 2025, equation 13)."""
        span = self._config.overlong_tokens
        if not span:
            return scored
        lengths = torch.tensor([len(response) for _, response in scored.rows], device=scored.scores.device)
        over = (lengths - (self._run.rollout.max_new_tokens - span)).clamp(min=0) / span
        return replace(scored, scores=scored.scores - over)


def _even(scores_GK: Tensor) -> list[int]:
    """Groups whose scores are all equal."""
    found: list[int] = (scores_GK.amax(1) == scores_GK.amin(1)).nonzero().flatten().tolist()
    return found
