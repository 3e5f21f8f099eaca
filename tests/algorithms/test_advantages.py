"""Rewards and advantages, by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.algorithms.advantages import gae, token_rewards

NAN = float("nan")


def test_the_score_falls_on_the_last_token_and_the_kl_on_all() -> None:
    # row 0 ends in column 1 (its end token), row 1 fills all columns; 0.5 * KL is taken from each
    kl = torch.tensor([[0.2, -0.4, NAN], [0.0, 1.0, 2.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = token_rewards(torch.tensor([10.0, -1.0]), kl, mask, kl_coef=0.5)
    torch.testing.assert_close(rewards, torch.tensor([[-0.1, 10.2, 0.0], [0.0, -0.5, -2.0]]))


def test_gae_of_three_steps_by_hand() -> None:
    # gamma = 0.5, lambda = 0.5, rewards 1, 2, 3, values 4, 2, 1, and 0 after the end:
    # delta_2 = 3 + 0.5 * 0 - 1 = 2          A_2 = 2
    # delta_1 = 2 + 0.5 * 1 - 2 = 0.5        A_1 = 0.5 + 0.25 * 2 = 1
    # delta_0 = 1 + 0.5 * 2 - 4 = -2         A_0 = -2 + 0.25 * 1 = -1.75
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 2.0, 1.0]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[-1.75, 1.0, 2.0]]
    assert returns.tolist() == [[2.25, 3.0, 3.0]]


def test_gae_at_lambda_one_is_the_discounted_return_minus_the_value() -> None:
    # returns from the back: 3; 2 + 0.9 * 3 = 4.7; 1 + 0.9 * 4.7 = 5.23
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 2.0, 1.0]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=0.9, lam=1.0)
    torch.testing.assert_close(returns, torch.tensor([[5.23, 4.7, 3.0]]))
    torch.testing.assert_close(advantages, torch.tensor([[1.23, 2.7, 2.0]]))


def test_gae_at_lambda_zero_is_the_one_step_error() -> None:
    rewards, values = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 2.0, 1.0]])
    advantages, _ = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=1.0, lam=0.0)
    assert advantages.tolist() == [[1 + 2 - 4, 2 + 1 - 2, 3 - 1]]


def test_nothing_flows_in_from_behind_the_end_of_a_short_row() -> None:
    # the short row is worked out as if it stood alone, whatever fills the columns behind it
    rewards = torch.tensor([[1.0, 2.0, NAN], [1.0, 2.0, 3.0]])
    values = torch.tensor([[4.0, 2.0, NAN], [4.0, 2.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    advantages, returns = gae(rewards, values, mask, gamma=0.5, lam=0.5)
    alone, alone_returns = gae(rewards[:1, :2], values[:1, :2], mask[:1, :2], gamma=0.5, lam=0.5)
    assert advantages[0].tolist() == [*alone[0].tolist(), 0.0]
    assert returns[0].tolist() == [*alone_returns[0].tolist(), 0.0]
    assert advantages[1].tolist() == [-1.75, 1.0, 2.0]


rows = st.lists(st.floats(-2, 2, width=32), min_size=5, max_size=5)


@given(rows, rows, st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_weighted_sum_of_errors(
    rewards: list[float], values: list[float], length: int, gamma: float, lam: float
) -> None:
    """Equation 16 in its forward form: A_t = sum over l of (gamma * lambda)^l * delta_{t+l}."""
    mask = torch.arange(5)[None] < length
    advantages, _ = gae(torch.tensor([rewards]).double(), torch.tensor([values]).double(), mask, gamma, lam)
    following = [*values[1:length], 0.0]
    errors = [rewards[t] + gamma * following[t] - values[t] for t in range(length)]
    for t in range(length):
        expected = sum((gamma * lam) ** step * error for step, error in enumerate(errors[t:]))
        assert advantages[0, t].item() == pytest.approx(expected, abs=1e-9)
    assert (advantages[0, length:] == 0).all()


def test_padding_in_front_has_no_advantage_either() -> None:
    rewards, values = torch.tensor([[NAN, 2.0, 3.0]]), torch.tensor([[NAN, 2.0, 1.0]])
    advantages, returns = gae(rewards, values, torch.tensor([[False, True, True]]), gamma=0.5, lam=0.5)
    assert advantages.tolist() == [[0.0, 1.0, 2.0]]
    assert returns.tolist() == [[0.0, 3.0, 3.0]]
