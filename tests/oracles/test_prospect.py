"""KTO against its exact optimum, on a table of answers.

Answers a are drawn from the reference and called good with probability p_a. With beta = 1, sigmoid(h - z) is
pi / (pi + pi_ref e^z), and where Lagrange's condition is solved the policy with the lowest loss is

    pi* = pi_ref max(0, sqrt(m e^z / lambda) - e^z),    m = desirable_weight * p - undesirable_weight * (1 - p),

with lambda such that it sums to 1: what is called bad more often than good, as weighed, is never said. z is no part of what
is minimised, so with the exact KL as the reference point the optimum is where z is the KL of that very policy.
"""

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.preference import dpo_loss
from rlhf.algorithms.prospect import kto_loss

REFERENCE = torch.tensor([0.30, 0.25, 0.20, 0.10, 0.10, 0.05], dtype=torch.float64)
GOOD = torch.tensor([0.75, 0.30, 0.85, 0.90, 0.65, 0.95], dtype=torch.float64)
"""Probability that an answer is called good; the second is called bad more often."""
JUDGEMENTS = 400
COUNTS = JUDGEMENTS * torch.cat([REFERENCE * GOOD, REFERENCE * (1 - GOOD)])
"""How often each answer is called good, and how often bad; whole numbers."""
TWELVE = torch.arange(12).repeat_interleave(COUNTS.round().long())
JUDGED, LABELS = TWELVE % 6, TWELVE < 6
"""The answer and the label of each judgement."""


def ratios(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1) - REFERENCE.log()


def kl(logits: Tensor) -> float:
    """Exact, in nats."""
    return (logits.softmax(-1) * ratios(logits)).sum().item()


def expected_loss(ratio: Tensor, point: float, weights: tuple[float, float], beta: float = 1.0) -> Tensor:
    """KTO's loss, a mean over judgements as frequent as they are probable."""
    return kto_loss(ratio[JUDGED], LABELS, point, beta, *weights) / JUDGEMENTS


def minimise(weights: tuple[float, float], point: float | None, steps: int = 500) -> Tensor:
    """The policy that learns by gradient steps; ``point`` None: the exact KL of the policy before each step."""
    logits = REFERENCE.log().clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        expected_loss(ratios(logits), kl(logits.detach()) if point is None else point, weights).backward()
        optimizer.step()
        schedule.step()
    return logits.detach().softmax(-1)


def optimum(weights: tuple[float, float], point: float) -> Tensor:
    """The formula above; lambda by bisection."""
    gain = (weights[0] * GOOD - weights[1] * (1 - GOOD)).clamp(min=0)
    raised = torch.tensor(point, dtype=torch.float64).exp()
    low, high = 1e-9, 10.0
    for _ in range(200):
        middle = (low * high) ** 0.5
        policy = REFERENCE * ((gain * raised / middle).sqrt() - raised).clamp(min=0)
        low, high = (middle, high) if policy.sum() > 1 else (low, middle)
    return policy


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("point", [0.0, 0.4])
def test_a_fixed_reference_point(point: float, weights: tuple[float, float]) -> None:
    torch.testing.assert_close(minimise(weights, point), optimum(weights, point), atol=2e-3, rtol=0)


def test_the_kl_as_the_reference_point() -> None:
    found = minimise((1.0, 1.0), None)
    distance = kl(found.clamp(min=1e-12).log())
    torch.testing.assert_close(found, optimum((1.0, 1.0), distance), atol=2e-3, rtol=0)
    assert distance > 0.05 and (found - optimum((1.0, 1.0), 0.0)).abs().max() > 5e-3  # the point does matter


def test_contradicting_judges() -> None:
    """Of two answers a has 60 % of the votes, and the reference says b: DPO goes on preferring b, KTO follows the majority.

    Proved by Ethayarajh et al. 2024 wherever 0.6^(1 / beta) pi_ref(a) < 0.4^(1 / beta) pi_ref(b), as here.
    """
    votes, reference, beta = torch.tensor([0.6, 0.4]), torch.tensor([0.1, 0.9]), 1.0
    answers, good = torch.tensor([0] * 10 + [1] * 10), torch.tensor(([True] * 6 + [False] * 4) + ([True] * 4 + [False] * 6))
    learnt = {}
    for name in ("dpo", "kto"):
        logits = reference.log().clone().requires_grad_()
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(300):
            optimizer.zero_grad()
            ratio = logits.log_softmax(-1) - reference.log()
            if name == "dpo":
                loss = dpo_loss(torch.stack([ratio[0] - ratio[1], ratio[1] - ratio[0]]), votes, beta)
            else:
                point = (ratio.detach() * logits.detach().softmax(-1)).sum().item()
                loss = kto_loss(ratio[answers], good, point, beta, 1.0, 1.0)
            loss.backward()
            optimizer.step()
        learnt[name] = logits.detach().softmax(-1)[0].item()
    assert learnt["dpo"] == pytest.approx(0.15 / (0.15 + 0.9), abs=1e-2)  # odds of 1.5 times those of the reference
    assert learnt["kto"] > 0.95


MISTAKES = {
    "good and bad are swapped": lambda ratio: expected_loss(-ratio, 0.0, (1.0, 1.0)),
    "the weights are swapped": lambda ratio: expected_loss(ratio, 0.0, (2.0, 1.0)),
    "beta is outside the sigmoid": lambda ratio: 3 * expected_loss(ratio, 0.0, (1.0, 2.0), beta=1 / 3),
    "the reference point has another sign": lambda ratio: expected_loss(ratio, -0.4, (1.0, 2.0)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_seen(mistake: str) -> None:
    """The gradient at the true optimum is 0 in all directions that are free, and is not with the mistake."""
    point = 0.4 if "point" in mistake else 0.0
    best = optimum((1.0, 2.0), point)
    logits = best.clamp(min=1e-9).log().requires_grad_()
    (right,) = torch.autograd.grad(expected_loss(ratios(logits), point, (1.0, 2.0)), logits)
    (wrong,) = torch.autograd.grad(MISTAKES[mistake](ratios(logits)), logits)
    assert right.abs().max() < 1e-6 and wrong.abs().max() > 1e-3
