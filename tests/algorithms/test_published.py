"""Numbers that others printed, and gradients that are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.kl import approximate_kl, k1, k3
from rlhf.algorithms.masks import whiten

NAN = float("nan")
REWARDS = [[1.2, 1.3, 1.4], [1.5, 1.6, 1.7], [1.8, 1.9, 2.0]]


@pytest.mark.parametrize(
    ("unbiased", "printed"),
    [
        (False, [[0.0508, 0.4381, 0.8254], [1.2127, 1.6000, 1.9873], [2.3746, 2.7619, 3.1492]]),  # TensorFlow's moments
        (True, [[0.1394, 0.5046, 0.8697], [1.2349, 1.6000, 1.9651], [2.3303, 2.6954, 3.0606]]),  # torch.var
    ],
)
def test_whitening_without_shift(unbiased: bool, printed: list[list[float]]) -> None:
    """Huang et al. 2023, "The N Implementation Details of RLHF with PPO", policy detail 9; here with padding beside."""
    values, mask = torch.tensor([[*row, NAN] for row in REWARDS]), torch.tensor([[True, True, True, False]] * 3)
    got = whiten(values, mask, shift_mean=False, unbiased=unbiased)
    torch.testing.assert_close(got[:, :3], torch.tensor(printed), rtol=0, atol=6e-5)


ESTIMATORS = {"k1": k1, "k2": approximate_kl, "k3": k3}


@pytest.mark.parametrize(
    ("mean", "printed"),
    [
        (0.1, {"k1": (0, 20), "k2": (0.002, 1.42), "k3": (0, 1.42)}),
        (1.0, {"k1": (0, 2), "k2": (0.25, 1.73), "k3": (0, 1.7)}),
    ],
)
def test_bias_and_spread_of_kl_estimators(mean: float, printed: dict[str, tuple[float, float]]) -> None:
    """Schulman 2020, "Approximating KL Divergence": bias and deviation over the true KL of N(0, 1) to N(mean, 1)."""
    grid = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    logprobs, reference = (-0.5 * (grid - centre) ** 2 - 0.5 * math.log(2 * math.pi) for centre in (0.0, mean))
    weights, true = logprobs.exp() * (grid[1] - grid[0]), mean**2 / 2
    for name, (bias, deviation) in printed.items():
        values = ESTIMATORS[name](logprobs, reference)
        expected = (weights * values).sum()
        spread = (weights * (values - expected) ** 2).sum().sqrt()
        assert (expected.item() - true) / true == pytest.approx(bias, abs=6e-4 if bias else 1e-6), name
        assert spread.item() / true == pytest.approx(deviation, rel=0.02), name


PI, REFERENCE = (torch.tensor(each, dtype=torch.float64) for each in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]))


def gradient(estimator: str) -> Tensor:
    """Of the estimator as a loss on samples from pi, averaged over them, for the logits of pi."""
    logits = PI.log().requires_grad_()
    (PI * ESTIMATORS[estimator](logits.log_softmax(-1), REFERENCE.log())).sum().backward()
    return logits.grad


def test_k1_as_a_loss_has_no_gradient() -> None:
    """The reference is a constant in it, and what is left, the gradient of log pi, is 0 on average."""
    assert gradient("k1").tolist() == pytest.approx([0.0] * 3, abs=1e-12)


def test_k2_as_a_loss_has_the_gradient_of_the_kl() -> None:
    # of sum pi (log pi - log ref), for the logits: pi (log pi - log ref - KL)
    ratio = (PI / REFERENCE).log()
    expected = PI * (ratio - (PI * ratio).sum())
    torch.testing.assert_close(gradient("k2"), expected)


def test_k3_as_a_loss_descends_the_other_kl() -> None:
    """That of the reference to pi, whose gradient for the logits is pi - pi_ref."""
    torch.testing.assert_close(gradient("k3"), PI - REFERENCE)
