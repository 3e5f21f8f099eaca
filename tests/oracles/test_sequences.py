"""PPO and DPO against the exact optimum on a table of responses of one and two tokens.

Every response, and every pair of them, is met and weighed by its probability. The critic is a table of three values: before
the first token, and after each of the two that a second one may follow.
"""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.advantages import gae, token_rewards
from rlhf.algorithms.kl import k1
from rlhf.algorithms.losses import ppo_policy_loss, value_loss
from rlhf.algorithms.preference import dpo_loss
from tests.oracles.responses import FIRST, MASK, REFERENCE, RESPONSES, REWARDS, SECOND, TOKEN, logprobs, optimum, settled

PLACES = torch.stack([torch.zeros_like(TOKEN[:, 0]), TOKEN[:, 0]], 1)
"""Which of the critic's values each token has, [Y, 2]."""


def of_ppo(beta: float, lam: float, sign: float = 1.0) -> Tensor:
    """Probabilities [Y] that PPO's expected loss comes to, with the KL to the reference paid for token by token."""

    def loss(tables: Sequence[Tensor]) -> Tensor:
        new, values = logprobs(*tables[:2]), tables[2][PLACES]
        old, before, likely = new.detach(), values.detach(), new.detach().sum(1).exp()
        rewards = token_rewards(REWARDS, sign * k1(old, REFERENCE), MASK, beta)
        advantages, returns = gae(rewards, before, MASK, gamma=1.0, lam=lam)
        policy = ppo_policy_loss(new, old, advantages * likely[:, None], MASK, 0.2)
        each = [value_loss(values[row], before[row], returns[row], MASK[row], None) for row in range(len(RESPONSES))]
        return policy + (torch.stack(each) * likely).sum()

    return logprobs(*settled([FIRST.clone(), SECOND.clone(), torch.zeros(3, dtype=torch.float64)], loss)[:2]).sum(1).exp()


def of_dpo(beta: float) -> Tensor:
    """Probabilities [Y] that DPO's expected loss over all pairs comes to, judged by Bradley and Terry."""
    pairs = torch.tensor(list(itertools.permutations(range(len(RESPONSES)), 2)))
    preferred = (REWARDS[pairs[:, 0]] - REWARDS[pairs[:, 1]]).sigmoid() / len(pairs)

    def loss(tables: Sequence[Tensor]) -> Tensor:
        ratios = ((logprobs(*tables) - REFERENCE) * MASK).sum(1)
        return dpo_loss(ratios[pairs[:, 0]] - ratios[pairs[:, 1]], preferred, beta)

    return logprobs(*settled([FIRST.clone(), SECOND.clone()], loss)).sum(1).exp()


def reward_and_kl(found: Tensor) -> tuple[float, float]:
    """E[r] and the KL to the reference, of probabilities [Y]."""
    return (found * REWARDS).sum().item(), (found * (found.log() - REFERENCE.sum(1))).sum().item()


@pytest.mark.parametrize("lam", [1.0, 0.9])
@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_ppo_finds_the_regularised_optimum_of_whole_responses(beta: float, lam: float) -> None:
    found = of_ppo(beta, lam)
    torch.testing.assert_close(found, optimum(beta), atol=1e-6, rtol=0)
    assert reward_and_kl(found) == pytest.approx(reward_and_kl(optimum(beta)), abs=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.3, 1.0])
def test_dpo_finds_it_from_pairs_of_responses(beta: float) -> None:
    found = of_dpo(beta)
    torch.testing.assert_close(found, optimum(beta), atol=1e-4, rtol=0)
    assert reward_and_kl(found) == pytest.approx(reward_and_kl(optimum(beta)), abs=1e-4)


def test_a_mistake_would_be_seen() -> None:
    assert (of_ppo(1.0, 1.0, sign=-1.0) - optimum(1.0)).abs().max() > 0.05  # distance pays
    assert (of_ppo(2.0, 1.0) - optimum(1.0)).abs().max() > 0.01  # the price is another
