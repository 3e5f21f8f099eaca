"""The loss of prospect-theoretic optimisation, as a sum over answers. N answers; log-ratios are of whole answers, in nats."""

import torch
from torch import Tensor


def kto_loss(log_ratio_N: Tensor, good_N: Tensor, point: float, beta: float, good_weight: float, bad_weight: float) -> Tensor:
    """weight * (1 - sigmoid(+-beta (log_ratio - point))), + of good answers and - of bad ones (Ethayarajh et al. 2024, eq. 7).

    Args:
        log_ratio_N: log-probability under the policy minus that under the reference.
        good_N: bool, whether people found the answer good.
        point: log-ratio, without a gradient, beside which an answer is a gain or a loss.
    """
    gain_N = torch.where(good_N, log_ratio_N - point, point - log_ratio_N)
    weight_N = torch.where(good_N, good_weight, bad_weight)
    return (weight_N * torch.sigmoid(-beta * gain_N)).sum()
