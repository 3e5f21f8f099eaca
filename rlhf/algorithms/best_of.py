"""The best of several responses to a prompt. Shapes: G prompts with N responses each."""

import math

import torch
from torch import Tensor


def best(scores_GN: Tensor, allowed_GN: Tensor) -> tuple[Tensor, Tensor]:
    """The place [G] of each prompt's best response that is ``allowed``, the first of equals, and whether [G] there is one."""
    return scores_GN.masked_fill(~allowed_GN, -math.inf).argmax(1), allowed_GN.any(1)


def expected_best(scores_GN: Tensor, values_GN: Tensor, size: int) -> Tensor:
    """Expected value [G] of the response that scores highest of ``size``, estimated from N without bias.

    It is the mean over every choice of ``size`` among the N (Nakano et al. 2021, appendix I): the i-th lowest score is the
    highest of C(i - 1, size - 1) out of C(N, size).
    """
    count = scores_GN.shape[1]
    shares = [math.comb(below, size - 1) / math.comb(count, size) for below in range(count)]
    ordered = values_GN.double().gather(1, scores_GN.argsort(dim=1, stable=True))
    return ordered @ torch.tensor(shares, dtype=torch.float64, device=ordered.device)


def kl_bound(size: int) -> float:
    """The most nats that the best of ``size`` is from what it was chosen from, log n - (n - 1) / n.

    Reached where no two responses score alike and none is likely (Stiennon et al. 2020, appendix G.3), else it is less
    (Beirami et al. 2024).
    """
    return math.log(size) - (size - 1) / size
