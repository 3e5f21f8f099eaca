"""The best of n against exact answers: which response is kept, how far that is from the start, and what learning it gives.

Responses whose scores differ are kept as often as order statistics say: with F(y) the probability of a score up to that of y
and F(y-) of one below it, the best of n is y with probability F(y)^n - F(y-)^n. Its KL to where it was drawn from is below
log n - (n - 1) / n, and comes to it as responses grow many (Beirami et al. 2024). `best` chooses in all of them.
"""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.best_of import best, kl_bound
from rlhf.algorithms.losses import sft_loss
from tests.oracles.test_groups import FIRST, MASK, REFERENCE, REWARDS, SECOND, logprobs, settled

DRAWS = 6000
CHI_SQUARE = {6: 22.46, 19: 43.82}
"""What chi-square with so many degrees of freedom exceeds once in a thousand."""
START = REFERENCE.sum(1).exp()
"""Probabilities of the seven responses of one and two tokens."""


def of_order(probabilities: Tensor, scores: Tensor, size: int) -> Tensor:
    """How often each is the best of ``size``; no two score alike."""
    order = scores.argsort()
    reached = torch.cat([torch.zeros(1, dtype=torch.float64), probabilities[order].cumsum(0)]) ** size
    return torch.zeros_like(probabilities).scatter(0, order, reached.diff())


def enumerated(probabilities: Tensor, scores: Tensor, size: int, allowed: Tensor | None = None) -> Tensor:
    """The same by what is kept of every group there is, each weighed by its probability; less than 1 in all if none may be."""
    axes = [torch.arange(len(scores))] * size
    groups = torch.cartesian_prod(*axes).view(-1, size)
    may = torch.ones_like(scores, dtype=torch.bool) if allowed is None else allowed
    places, found = best(scores[groups], may[groups])
    likely = probabilities[groups].prod(1) * found
    return torch.zeros_like(probabilities).index_add(0, groups.gather(1, places[:, None]).squeeze(1), likely)


def divergence(kept: Tensor, start: Tensor) -> float:
    """KL in nats."""
    return torch.special.xlogy(kept, kept / start).sum().item()


def spread(count: int) -> tuple[Tensor, Tensor]:
    """``count`` responses of the same probability, and their scores in an order of chance."""
    scores = torch.randperm(count, generator=torch.Generator().manual_seed(count)).double()
    return torch.full((count,), 1 / count, dtype=torch.float64), scores


def too_far(kept: Tensor, expected: Tensor) -> bool:
    """Whether counts of what was kept are outside of the 99.9 % interval around their expectation."""
    chi_square = ((kept - expected) ** 2 / expected).sum().item()
    return chi_square > CHI_SQUARE[len(expected) - 1]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_is_kept_follows_the_order_statistics(size: int) -> None:
    kept = enumerated(START, REWARDS, size)
    torch.testing.assert_close(kept, of_order(START, REWARDS, size), atol=1e-12, rtol=0)
    assert divergence(kept, START) < kl_bound(size) or size == 1


@pytest.mark.parametrize(("size", "counts"), [(2, (32, 64, 128, 256, 512)), (3, (8, 16, 32, 64))])
def test_the_divergence_comes_to_the_bound_from_below(size: int, counts: tuple[int, ...]) -> None:
    """Twice the responses, a quarter of what is missing."""
    missing = [kl_bound(size) - divergence(enumerated(*spread(count), size), spread(count)[0]) for count in counts]
    assert all(0 < small < 0.3 * large for large, small in itertools.pairwise(missing))
    assert missing[-1] * counts[-1] ** 2 < 1


def test_many_responses_are_all_but_at_the_bound() -> None:
    probabilities, scores = spread(100_000)
    for size in (4, 16, 64):
        assert divergence(of_order(probabilities, scores, size), probabilities) == pytest.approx(kl_bound(size), abs=1e-6)


def test_sampled_groups_keep_each_as_often_as_they_should() -> None:
    """16 of 10,000 responses, 6,000 times; told in twenty parts of the ranking, the higher ones narrower."""
    probabilities, scores = spread(10_000)
    groups = torch.randint(10_000, (DRAWS, 16), generator=torch.Generator().manual_seed(1))
    parts = (torch.arange(1, 21, dtype=torch.float64) / 20) ** (1 / 16)  # a twentieth of the kept in each

    def counts(scored: Tensor) -> Tensor:
        places, _ = best(scored, torch.ones_like(groups, dtype=torch.bool))
        kept = scores[groups].gather(1, places[:, None]).squeeze(1)
        return torch.bincount(torch.searchsorted(parts, (kept + 0.5) / 10_000).clamp(max=19), minlength=20).double()

    reached = torch.cat([torch.zeros(1, dtype=torch.float64), (parts * 10_000).floor() / 10_000]) ** 16
    expected = reached.diff() * DRAWS
    assert not too_far(counts(scores[groups]), expected)
    assert too_far(counts(-scores[groups]), expected)  # the worst
    assert too_far(counts(scores[groups][:, :15].repeat(1, 2)[:, :16]), expected)  # the best of fifteen


def test_what_may_not_be_kept_counts_as_worse_than_all() -> None:
    """Without an end, or below a threshold; a prompt has one that may be with 1 - (1 - A)^n, A the share of these."""
    allowed = torch.tensor([True, False, True, True, False, True, False])
    kept, size = enumerated(START, REWARDS, 3, allowed), 3
    lowest = torch.where(allowed, REWARDS, REWARDS - 10)
    torch.testing.assert_close(kept, of_order(START, lowest, size) * allowed, atol=1e-12, rtol=0)
    assert kept.sum().item() == pytest.approx(1 - START[~allowed].sum().item() ** size)


def test_of_right_and_wrong_the_right_ones_are_kept_as_they_are() -> None:
    """Rejection sampling: the start, given that it is right, - log of the probability to be right away from it."""
    right = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    kept = enumerated(START, right, 4, right > 0.5)
    expected = START * right / (START * right).sum()
    torch.testing.assert_close(kept / kept.sum(), expected, atol=1e-12, rtol=0)
    assert divergence(expected, START) == pytest.approx(-math.log((START * right).sum().item()))


def fitted(weights: Tensor) -> Tensor:
    """Probabilities [Y] of a table of tokens that has learnt the responses, each with its weight."""

    def loss(tables: Sequence[Tensor]) -> Tensor:
        return sft_loss(logprobs(*tables) * weights[:, None], MASK)

    return logprobs(*settled([FIRST.clone(), SECOND.clone()], loss)).sum(1).exp()


@pytest.mark.parametrize("size", [2, 4])
def test_learning_it_gives_the_policy_that_it_is(size: int) -> None:
    torch.testing.assert_close(fitted(enumerated(START, REWARDS, size)), of_order(START, REWARDS, size), atol=1e-4, rtol=0)


def test_learning_sampled_ones_gives_it_within_the_sampling_interval() -> None:
    generator = torch.Generator().manual_seed(2)
    groups = torch.multinomial(START.expand(DRAWS, -1), 2, replacement=True, generator=generator)
    places, _ = best(REWARDS[groups], torch.ones_like(groups, dtype=torch.bool))
    kept = torch.bincount(groups.gather(1, places[:, None]).squeeze(1), minlength=len(START)) / DRAWS
    assert not too_far(fitted(kept.double()) * DRAWS, of_order(START, REWARDS, 2) * DRAWS)
    assert too_far(fitted(kept.double()) * DRAWS, of_order(START, REWARDS, 3) * DRAWS)


def test_the_best_of_two_from_the_best_of_two_is_the_best_of_four() -> None:
    """What a second round reaches that samples from the policy of the first."""
    twice = enumerated(fitted(enumerated(START, REWARDS, 2)), REWARDS, 2)
    torch.testing.assert_close(twice, of_order(START, REWARDS, 4), atol=1e-4, rtol=0)
