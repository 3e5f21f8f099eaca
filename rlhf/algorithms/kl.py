"""Estimators of KL(pi || pi_ref) from tokens sampled from pi (Schulman 2020, "Approximating KL divergence")."""

from torch import Tensor


def k1(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """log pi - log pi_ref: unbiased, may be negative."""
    return logprobs - reference_logprobs


def k3(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """r - 1 - log r with r = pi_ref / pi: unbiased, never negative."""
    log_ratio = reference_logprobs - logprobs
    return log_ratio.exp() - 1 - log_ratio


def approximate_kl(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio: how far an update has moved the policy from the one that sampled."""
    return 0.5 * (logprobs - old_logprobs) ** 2


def adapted_coefficient(coefficient: float, kl: float, target: float, responses: int, horizon: int) -> float:
    """The KL coefficient after ``responses`` responses with this mean KL (Ziegler et al. 2019, section 2.2).

    It grows or shrinks in proportion to the relative error, which counts as a fifth at most.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return coefficient * (1 + error * responses / horizon)
