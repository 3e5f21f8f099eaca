"""Advantages within a group, the two-sided clip and weights of tokens, worked by hand."""

import math

import pytest
import torch

from rlhf.algorithms.groups import LEAST_DEVIATION, clipped, group_relative, leave_one_out, sequence_log_ratio, weighted_sum
from rlhf.config import AdvantageScale

SCORES = torch.tensor([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])


def test_each_score_is_judged_by_the_mean_of_the_others() -> None:
    # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
    assert leave_one_out(SCORES).tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]


def test_a_group_is_scaled_by_its_own_deviation_that_of_the_batch_or_not_at_all() -> None:
    centred = torch.tensor([[-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]])
    assert torch.equal(group_relative(SCORES, AdvantageScale.none), centred)
    own = math.sqrt((4 + 1 + 9) / 2)  # K - 1
    torch.testing.assert_close(group_relative(SCORES, AdvantageScale.group), centred / (own + LEAST_DEVIATION))
    whole = math.sqrt((2.5**2 + 1.5**2 + 2.5**2 + 3 * 0.5**2) / 5)  # all six around 3.5
    torch.testing.assert_close(group_relative(SCORES, AdvantageScale.batch), centred / (whole + LEAST_DEVIATION))


def test_equal_scores_have_no_advantage_and_are_no_division_by_zero() -> None:
    for scale in AdvantageScale:
        assert group_relative(SCORES[1:], scale).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.25, 2.0, 2.5),  # below the upper bound of 1.28
        (1.5, 2.0, 2.56),
        (1.5, -2.0, -3.0),  # a loss is not clipped
        (0.7, -2.0, -1.6),  # 0.8 bounds what is gained by making it less likely
        (0.7, 2.0, 1.4),
    ],
)
def test_the_upper_and_the_lower_clip_are_apart(ratio: float, advantage: float, expected: float) -> None:
    assert clipped(torch.tensor(ratio), torch.tensor(advantage), 0.2, 0.28).item() == pytest.approx(expected)


def test_the_ratio_of_a_response_is_the_product_or_the_geometric_mean_of_its_tokens() -> None:
    log_ratio = torch.tensor([[0.1, 0.3, 9.0], [0.2, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    torch.testing.assert_close(sequence_log_ratio(log_ratio, mask, mean=False)[:, 0], torch.tensor([0.4, 0.2]))
    mean = sequence_log_ratio(log_ratio, mask, mean=True)
    torch.testing.assert_close(mean[:, 0], torch.tensor([0.2, 0.2]))
    assert mean.shape == log_ratio.shape


def test_a_token_counts_as_much_as_its_response_says_and_padding_not_at_all() -> None:
    values = torch.tensor([[1.0, 2.0, 50.0], [3.0, 50.0, 50.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert weighted_sum(values, mask, torch.tensor([0.5, 1.0])).item() == pytest.approx(0.5 * 3 + 3)
