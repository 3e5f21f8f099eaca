"""Losses of preference optimisation, as sums over pairs. P pairs; log-probabilities are of whole answers, in nats.

Each pair counts with its ``share_P`` among the pairs of its prompt.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def dpo_loss(margin_P: Tensor, share_P: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta * margin) (Rafailov et al. 2023, equation 7).

    Args:
        margin_P: log-ratio to the reference of the better answer minus that of the worse.
        label_smoothing: probability that a pair is the wrong way round (Mitchell 2023); its loss then counts as much.
    """
    right, wrong = F.logsigmoid(beta * margin_P), F.logsigmoid(-beta * margin_P)
    return -(share_P * ((1 - label_smoothing) * right + label_smoothing * wrong)).sum()


def ipo_loss(margin_P: Tensor, share_P: Tensor, beta: float) -> Tensor:
    """(margin - 1 / (2 beta))^2 (Azar et al. 2024, equation 17, beta being their tau); ``margin_P`` as in ``dpo_loss``."""
    return (share_P * (margin_P - 1 / (2 * beta)) ** 2).sum()


def simpo_loss(better_P: Tensor, worse_P: Tensor, share_P: Tensor, beta: float, margin: float) -> Tensor:
    """-log sigmoid(beta * (better - worse) - margin) of mean log-probabilities a token (Meng et al. 2024, equation 6)."""
    return -(share_P * F.logsigmoid(beta * (better_P - worse_P) - margin)).sum()


def odds_ratio_loss(better_P: Tensor, worse_P: Tensor, share_P: Tensor) -> Tensor:
    """-log sigmoid(log odds(better) - log odds(worse)), odds(p) = p / (1 - p) (Hong et al. 2024, equation 7).

    Args:
        better_P: mean log-probability a token of the better answer; its exponential is the p of the odds.
    """
    return -(share_P * F.logsigmoid(log_odds(better_P) - log_odds(worse_P))).sum()


def log_odds(logprob: Tensor) -> Tensor:
    """log(p / (1 - p)) for ``logprob`` = log p < 0, exact for p near 0 and near 1."""
    logprob = logprob.clamp(max=-torch.finfo(logprob.dtype).tiny)  # a certain answer has infinite odds
    return logprob - torch.log(-torch.expm1(logprob))
