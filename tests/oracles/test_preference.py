"""Preference optimisation against its exact optimum, on a table of answers.

Where pairs are drawn from the reference and judged by Bradley and Terry with rewards r, the policy that minimises DPO's loss
is the optimum of the KL-regularised reward, pi* ~ pi_ref exp(r / beta) (Rafailov et al. 2023, section 4 and appendix A).
IPO's is pi_ref exp(P(. beats pi_ref) / beta), whatever made the preferences (Azar et al. 2024, equation 7). Both are met
here with every pair weighed by its probability, so what is left is the optimiser's rounding.
"""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.preference import dpo_loss, ipo_loss

REFERENCE = torch.tensor([0.30, 0.25, 0.20, 0.10, 0.10, 0.05], dtype=torch.float64)
REWARDS = torch.tensor([0.0, 0.2, 0.9, 1.0, 0.4, 0.7], dtype=torch.float64)
BETAS = (0.1, 0.3, 1.0)
PAIRS = list(itertools.permutations(range(len(REWARDS)), 2))
BETTER, WORSE = (torch.tensor(each) for each in zip(*PAIRS, strict=True))
WINS = (REWARDS[:, None] - REWARDS[None, :]).sigmoid()
"""[a, b]: probability that a is preferred to b."""
SHARE = REFERENCE[BETTER] * REFERENCE[WORSE] * WINS[BETTER, WORSE]
"""Of each ordered pair among all judgements."""


def minimise(loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The policy [actions] with the lowest ``loss`` of the pairs' margins."""
    logits = REFERENCE.log().clone().requires_grad_()
    settings = {"max_iter": 500, "tolerance_grad": 1e-12, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([logits], **settings)

    def closure() -> Tensor:
        optimizer.zero_grad()
        ratio = logits.log_softmax(-1) - REFERENCE.log()
        value = loss(ratio[BETTER] - ratio[WORSE])
        value.backward()
        return value

    optimizer.step(closure)
    return logits.detach().softmax(-1)


@pytest.mark.parametrize("beta", BETAS)
def test_dpo_finds_the_regularised_optimum(beta: float) -> None:
    expected = (REFERENCE.log() + REWARDS / beta).softmax(-1)
    torch.testing.assert_close(minimise(lambda margin: dpo_loss(margin, SHARE, beta)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("beta", BETAS)
def test_ipo_finds_its_optimum(beta: float) -> None:
    expected = (REFERENCE.log() + (WINS @ REFERENCE) / beta).softmax(-1)
    torch.testing.assert_close(minimise(lambda margin: ipo_loss(margin, SHARE, beta)), expected, atol=1e-6, rtol=0)


def test_smoothing_stands_for_judges_who_err() -> None:
    """Judgements turned round with probability e and DPO smoothed by e pull alike: both have the optimum of the noisy judge."""
    noise, beta = 0.1, 0.3
    noisy = REFERENCE[BETTER] * REFERENCE[WORSE] * ((1 - noise) * WINS[BETTER, WORSE] + noise * WINS[WORSE, BETTER])
    smoothed = minimise(lambda margin: dpo_loss(margin, SHARE, beta, label_smoothing=noise))
    torch.testing.assert_close(smoothed, minimise(lambda margin: dpo_loss(margin, noisy, beta)), atol=1e-6, rtol=0)


MISTAKES: dict[str, Callable[[Tensor], Tensor]] = {
    "better and worse are swapped": lambda margin: dpo_loss(-margin, SHARE, 0.3),
    "beta is outside the sigmoid": lambda margin: 0.3 * dpo_loss(margin, SHARE, 1.0),
    "the share is left out": lambda margin: dpo_loss(margin, torch.ones_like(SHARE), 0.3),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_seen(mistake: str) -> None:
    expected = (REFERENCE.log() + REWARDS / 0.3).softmax(-1)
    assert (minimise(MISTAKES[mistake]) - expected).abs().max() > 1e-2
