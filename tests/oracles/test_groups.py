"""RLOO and GRPO against exact answers, on a table of short responses.

Every group of two or three responses is met, weighed by its probability, so expectations are exact and what is left is the
optimiser's rounding. With KL in the reward the optimum is pi*(y) ~ pi_ref(y) exp(r(y) / beta): there all rewards with their
KL are equal, all advantages are 0, and neither deviations nor weights of tokens move it. With k3 in the loss (GRPO as
published) the expected gradient at the policy that sampled is that of E[r] - beta KL(pi_ref || pi), whose optimum on single
tokens is pi(a) = beta pi_ref(a) / (lambda - r(a)) (Grill et al. 2020, equation 8, for its form).
"""

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.groups import clipped, group_relative, leave_one_out, sequence_log_ratio, weighted_sum
from rlhf.algorithms.kl import k1, k3
from rlhf.config import AdvantageScale
from tests.oracles.responses import FIRST, LENGTHS, MASK, REFERENCE, RESPONSES, REWARDS, SECOND, logprobs, optimum, settled

Advantages = Callable[[Tensor], Tensor]


def learnt(
    advantages: Advantages, size: int, beta: float, shares: Tensor, sequence: bool, penalty: Callable[..., Tensor] = k1
) -> Tensor:
    """Probabilities [Y] of the responses where the expected gradient of the loss over all groups vanishes."""
    groups = torch.tensor(list(itertools.product(range(len(RESPONSES)), repeat=size)))
    tables = [FIRST.clone(), SECOND.clone()]

    def loss(tables: Sequence[Tensor]) -> Tensor:
        new = logprobs(*tables)
        old = new.detach()
        paid = REWARDS - beta * (penalty(old, REFERENCE) * MASK).sum(1)
        likely = old.sum(1)[groups].sum(1).exp()  # of each group
        share = (advantages(paid[groups]) * likely[:, None]).flatten()
        # every advantage a response has, in all the groups it is in
        expected = torch.zeros_like(REWARDS).index_add(0, groups.flatten(), share) / size
        ratio = (sequence_log_ratio(new - old, MASK, mean=False) if sequence else new - old).exp()
        return -weighted_sum(clipped(ratio, expected[:, None], 0.2, 0.2), MASK, shares)

    return logprobs(*settled(tables, loss)).sum(1).exp()


@pytest.mark.parametrize(("beta", "size"), [(0.3, 2), (1.0, 2), (3.0, 2), (0.5, 3)])
def test_rloo_finds_the_regularised_optimum(beta: float, size: int) -> None:
    found = learnt(leave_one_out, size, beta, 1 / LENGTHS, sequence=True)
    torch.testing.assert_close(found, optimum(beta), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("scale", "shares"),
    [(scale, shares) for scale, shares in itertools.product(AdvantageScale, (1 / LENGTHS, torch.ones(len(RESPONSES))))],
)
def test_grpo_with_kl_in_the_reward_finds_it_too_however_it_scales_and_weighs(scale: AdvantageScale, shares: Tensor) -> None:
    found = learnt(lambda scores: group_relative(scores, scale), 2, 0.5, shares, sequence=False)
    # where a deviation divides, advantages keep their size until they vanish, and steps end a little off
    torch.testing.assert_close(found, optimum(0.5), atol=1e-5 if scale is AdvantageScale.none else 5e-3, rtol=0)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("beta", [0.3, 1.0])
def test_grpo_with_kl_in_the_loss_finds_the_optimum_of_the_other_divergence(beta: float, size: int) -> None:
    """On single tokens. A group's mean holds the response itself, so advantages are (K - 1) / K of leave-one-out's."""
    reference, rewards = torch.tensor([0.3, 0.5, 0.2], dtype=torch.float64), torch.tensor([0.2, 0.0, 1.0], dtype=torch.float64)
    groups = torch.tensor(list(itertools.product(range(3), repeat=size)))

    def loss(tables: Sequence[Tensor]) -> Tensor:
        new = tables[0].log_softmax(-1)
        old = new.detach()
        advantages = group_relative(rewards[groups], AdvantageScale.none)
        surrogate = clipped((new - old).exp()[groups], advantages, 0.2, 0.2).sum(1) / size
        return -(old[groups].sum(1).exp() * surrogate).sum() + beta * (old.exp() * k3(new, reference.log())).sum()

    found, strength = settled([reference.log()], loss)[0].softmax(-1), beta * size / (size - 1)
    torch.testing.assert_close(found, other_optimum(reference, rewards, strength), atol=1e-5, rtol=0)
    assert (found - (reference.log() + rewards / strength).softmax(-1)).abs().max() > 1e-3  # and not that of KL(pi || pi_ref)


def other_optimum(reference: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """beta pi_ref / (lambda - r), with lambda found by bisection so that it sums to 1."""
    low, high = rewards.max().item() + 1e-12, rewards.max().item() + beta
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (beta * reference / (middle - rewards)).sum() > 1 else (low, middle)
    return beta * reference / (low - rewards)


def test_another_estimate_of_kl_in_the_reward_is_seen() -> None:
    """k3 is as right as k1 on average, but not as a reward."""
    found = learnt(leave_one_out, 2, 0.5, 1 / LENGTHS, sequence=True, penalty=k3)
    assert (found - optimum(0.5)).abs().max() > 0.01
