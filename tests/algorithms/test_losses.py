"""Losses by hand, and as sums over any split of a batch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.algorithms.losses import (
    best_of_list_loss,
    pairwise_loss,
    policy_ratio,
    ppo_policy_loss,
    rating_loss,
    sft_loss,
    tokenwise_loss,
    value_loss,
)

NAN = float("nan")
ONE = torch.ones(1, 1, dtype=torch.bool)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor([[value]])


def test_sft_loss_is_the_summed_negative_log_likelihood_of_the_targets() -> None:
    # tokens with probabilities 1/2 and 1/4 count, 1/8 is a prompt's: ln 2 + ln 4 = 3 ln 2
    logprobs = torch.tensor([[0.125, 0.5, 0.25]]).log()
    assert sft_loss(logprobs, torch.tensor([[False, True, True]])).item() == pytest.approx(3 * math.log(2))


ALONE, BOTH = torch.ones(1), torch.ones(2)
"""Shares of one pair, and of one pair of each of two prompts."""


def test_pairwise_loss_at_equality_and_at_a_margin_of_one() -> None:
    assert pairwise_loss(torch.tensor([3.0]), torch.tensor([3.0]), ALONE).item() == pytest.approx(math.log(2))
    # -ln sigmoid(1) = ln(1 + 1/e) = 0.3132617; -ln sigmoid(-1) is one more: 1.3132617
    assert pairwise_loss(torch.tensor([2.0]), torch.tensor([1.0]), ALONE).item() == pytest.approx(0.3132617)
    assert pairwise_loss(torch.tensor([1.0]), torch.tensor([2.0]), ALONE).item() == pytest.approx(1.3132617)
    # a sum over pairs, not a mean
    assert pairwise_loss(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 2.0]), BOTH).item() == pytest.approx(1.6265234)


def test_pairwise_loss_stays_finite_at_large_margins() -> None:
    assert pairwise_loss(torch.tensor([-1e4]), torch.tensor([1e4]), ALONE).item() == pytest.approx(2e4)
    assert pairwise_loss(torch.tensor([1e4]), torch.tensor([-1e4]), ALONE).item() == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),  # on policy: - A * ratio; its derivative with respect to log pi is - A * ratio
        (1.5, 2.0, -2.4, 0.0),  # good action, already 1.2 times likelier: clipped at 1.2 * 2, nothing more to gain
        (1.5, -2.0, 3.0, 3.0),  # bad action made likelier: not clipped, the whole way back is pushed
        (0.5, 2.0, -1.0, -1.0),  # good action made unlikelier: not clipped
        (0.5, -2.0, 1.6, 0.0),  # bad action, already unlikelier than 0.8: clipped at 0.8 * -2
    ],
)
def test_ppo_policy_loss_clips_on_both_signs_of_the_advantage(
    ratio: float, advantage: float, loss: float, slope: float
) -> None:
    logprobs = scalar(math.log(0.1 * ratio)).requires_grad_()
    got = ppo_policy_loss(logprobs, scalar(math.log(0.1)), scalar(advantage), ONE, clip_range=0.2)
    got.backward()
    assert got.item() == pytest.approx(loss, rel=1e-5)
    assert logprobs.grad.item() == pytest.approx(slope, rel=1e-5)


def test_policy_ratio_is_one_outside_the_mask() -> None:
    logprobs, old = torch.tensor([[math.log(0.3), NAN]]), torch.tensor([[math.log(0.2), 0.0]])
    assert policy_ratio(logprobs, old, torch.tensor([[True, False]])).tolist() == [pytest.approx([1.5, 1.0])]


def test_value_loss_without_clipping_is_half_the_squared_error() -> None:
    assert value_loss(scalar(3.0), scalar(0.0), scalar(1.0), ONE, None).item() == 2.0


@pytest.mark.parametrize(
    ("value", "old", "target", "loss"),
    [
        (3.0, 0.0, 3.0, 0.5 * 2.8**2),  # on target, but it moved by 3 where 0.2 is allowed: the clipped error is larger
        (0.1, 0.0, 1.0, 0.5 * 0.9**2),  # moved by less than 0.2: both are the same
        (-1.0, 0.0, 1.0, 0.5 * 2.0**2),  # moved the wrong way: the plain error is larger than 1.2**2
    ],
)
def test_value_loss_takes_the_larger_error(value: float, old: float, target: float, loss: float) -> None:
    assert value_loss(scalar(value), scalar(old), scalar(target), ONE, 0.2).item() == pytest.approx(loss, rel=1e-6)


numbers = st.lists(st.floats(-3, 3, width=32), min_size=12, max_size=12)


@given(numbers, numbers, numbers, st.lists(st.booleans(), min_size=12, max_size=12), st.integers(1, 3))
def test_losses_add_up_over_any_split_and_ignore_what_is_masked(
    first: list[float], second: list[float], third: list[float], kept: list[bool], cut: int
) -> None:
    a, b, c = (torch.tensor(each, dtype=torch.float64).view(4, 3) for each in (first, second, third))
    mask = torch.tensor(kept).view(4, 3)
    losses = {
        "sft": lambda rows: sft_loss(a[rows], mask[rows]),
        "pairs": lambda rows: pairwise_loss(a[rows, 0], b[rows, 0], torch.ones(len(a[rows]))),
        "policy": lambda rows: ppo_policy_loss(a[rows], b[rows], c[rows], mask[rows], 0.2),
        "value": lambda rows: value_loss(a[rows], b[rows], c[rows], mask[rows], 0.2),
    }
    for name, loss in losses.items():
        whole = loss(slice(None)).item()
        assert loss(slice(0, cut)).item() + loss(slice(cut, None)).item() == pytest.approx(whole, abs=1e-9), name
    before = [losses[name](slice(None)).item() for name in ("sft", "policy", "value")]
    for each in (a, b, c):
        each[~mask] = NAN
    assert [losses[name](slice(None)).item() for name in ("sft", "policy", "value")] == before


def test_no_gradient_is_nan_where_the_padding_is() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    garbage, mask = torch.tensor([[-1.0, NAN]]), torch.tensor([[True, False]])
    ppo_policy_loss(logprobs, garbage, torch.tensor([[1.0, NAN]]), mask, 0.2).backward()
    assert logprobs.grad.tolist() == [[-1.0, 0.0]]


def test_tokenwise_loss_averages_over_the_span_and_sums_over_pairs() -> None:
    # differences 0 and 2 in the span: (ln 2 + ln(1 + e^-2)) / 2 = (0.6931472 + 0.1269280) / 2
    chosen, rejected = torch.tensor([[9.0, 2.0, 3.0]]), torch.tensor([[-9.0, 2.0, 1.0]])
    span = torch.tensor([[False, True, True]])
    assert tokenwise_loss(chosen, rejected, span, torch.ones(len(span))).item() == pytest.approx(0.4100376)
    twice = tokenwise_loss(chosen.repeat(2, 1), rejected.repeat(2, 1), span.repeat(2, 1), torch.ones(2 * len(span)))
    assert twice.item() == pytest.approx(2 * 0.4100376)


def test_tokenwise_loss_on_the_last_token_alone_is_the_pairwise_loss() -> None:
    chosen, rejected, span = torch.tensor([[5.0, 2.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[False, True]])
    assert tokenwise_loss(chosen, rejected, span, torch.ones(len(span))).item() == pytest.approx(
        pairwise_loss(chosen[:, 1], rejected[:, 1], torch.ones(len(span))).item()
    )


def test_all_pairs_of_a_list_count_as_one_prompt() -> None:
    # scores 2, 1, -1: pairs (2, 1), (2, -1), (1, -1), each a third: (0.3132617 + 0.0485874 + 0.1269280) / 3
    better, worse = torch.tensor([2.0, 2.0, 1.0]), torch.tensor([1.0, -1.0, -1.0])
    assert pairwise_loss(better, worse, torch.full((3,), 1 / 3)).item() == pytest.approx(0.1629257)


def test_the_best_of_a_list_by_hand() -> None:
    # prompt 0: scores 1 (best), 0, -1: -1 + log(e + 1 + 1/e) = 0.4076059; prompt 1: 0 (best), 2: log(1 + e^2) = 2.1269280
    scores = torch.tensor([1.0, 0.0, 0.0, 2.0, -1.0], requires_grad=True)
    prompts, ranks = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0, 0, 1, 1, 2])
    loss = best_of_list_loss(scores, prompts, ranks)
    loss.backward()
    assert loss.item() == pytest.approx(0.4076059 + 2.1269280)
    assert scores.grad is not None and scores.grad.isfinite().all() and scores.grad[1].item() == pytest.approx(-0.8807971)


def test_two_in_a_list_are_a_pair() -> None:
    scores = torch.tensor([0.3, 1.1])
    listed = best_of_list_loss(scores, torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert listed.item() == pytest.approx(pairwise_loss(scores[:1], scores[1:], ALONE).item())


def test_rating_loss_by_hand() -> None:
    # a prompt with ratings 1 and 0 for scores 2 and 0.5, (1 + 0.25) / 2, and one with rating 3 for score 0, 9
    scores, ratings = torch.tensor([2.0, 0.5, 0.0]), torch.tensor([1.0, 0.0, 3.0])
    assert rating_loss(scores, ratings, torch.tensor([0.5, 0.5, 1.0])).item() == 9.625
