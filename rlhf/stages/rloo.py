"""REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024): a response is one action, and so is its probability.

    reward     R = s - kl_coef * sum over tokens of log pi - log pi_SFT
    advantage  A_i = R_i - mean of the other R_j of the group
    loss       - mean over responses of min(rho A, clip(rho) A),  rho = pi(response) / pi_old(response)

With one pass and one minibatch rho is 1 and the gradient that of REINFORCE, - A grad log pi(response), unbiased for the
KL-regularised reward, whose optimum is pi_SFT exp(s / kl_coef). All else is in `grouped`.
"""

import torch
from torch import Tensor

from rlhf.algorithms.groups import leave_one_out, sequence_log_ratio
from rlhf.config import RLOOConfig
from rlhf.lineage import READS
from rlhf.stages.grouped import Grouped
from rlhf.stages.interface import Setting


class RLOO(Grouped[RLOOConfig]):
    """Whole responses, judged by the mean of the others."""

    reads = READS["rloo"]
    name = "rloo"
    kl_in_reward = True

    def __init__(self, setting: Setting) -> None:
        config = setting.run.rloo
        self.clip_ranges = (config.clip_range, config.clip_range)
        super().__init__(setting, config)

    def advantages(self, scores_GK: Tensor) -> Tensor:
        """Each score minus the mean of the others'."""
        return leave_one_out(scores_GK)

    def log_ratio(self, log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """That of the whole response."""
        return sequence_log_ratio(log_ratio_BT, mask_BT, mean=False)

    def weigh(self, lengths_B: Tensor, ended_B: Tensor) -> tuple[Tensor, Tensor]:
        """All responses count alike, whatever their length."""
        return 1 / lengths_B, torch.ones_like(lengths_B, dtype=torch.float32)
