"""Sums over the tokens that count, by hand."""

import pytest
import torch

from rlhf.algorithms.masks import diverging_span, hold_last, last_true, masked_mean, masked_sum, whiten, with_next

NAN = float("nan")


def test_masked_sum_and_mean_never_look_under_the_mask() -> None:
    values = torch.tensor([[1.0, NAN], [float("inf"), 3.0]])
    mask = torch.tensor([[True, False], [False, True]])
    assert masked_sum(values, mask).item() == 4.0
    assert masked_mean(values, mask).item() == 2.0


def test_masked_mean_of_nothing_is_zero() -> None:
    assert masked_mean(torch.full((2, 2), NAN), torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


def test_gradients_do_not_leak_from_under_the_mask() -> None:
    values = torch.tensor([2.0, NAN], requires_grad=True)
    masked_sum(values, torch.tensor([True, False])).backward()
    assert values.grad.tolist() == [1.0, 0.0]


def test_whiten_uses_the_biased_variance() -> None:
    # mean of 1, 2, 3, 6 is 3; squared distances 4 + 1 + 0 + 9 = 14, over 4 (not 3): 3.5; (1 - 3) / sqrt(3.5) = -1.069045
    values = torch.tensor([[1.0, 2.0, NAN], [3.0, 6.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    white = whiten(values, mask)
    expected = torch.tensor([[-2.0, -1.0, 0.0], [0.0, 3.0, 0.0]]) / 3.5**0.5
    torch.testing.assert_close(white, expected, rtol=1e-6, atol=1e-6)
    assert white[mask].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert white[mask].var(correction=0).item() == pytest.approx(1.0, abs=1e-6)
    assert white[mask].var().item() == pytest.approx(4 / 3, abs=1e-6)  # torch's default is the unbiased one


def test_whiten_can_divide_by_one_less() -> None:
    values, mask = torch.tensor([[1.0, 2.0, 3.0, 6.0, NAN]]), torch.tensor([[True] * 4 + [False]])
    white = whiten(values, mask, unbiased=True)  # squared distances add up to 14, over 3
    torch.testing.assert_close(white, torch.tensor([[-2.0, -1.0, 0.0, 3.0, 0.0]]) / (14 / 3) ** 0.5)
    assert whiten(torch.tensor([[5.0]]), torch.ones(1, 1, dtype=torch.bool), unbiased=True).tolist() == [[0.0]]


def test_the_next_column_counts_too_where_there_is_one() -> None:
    mask = torch.tensor([[False, True, False, False], [False, True, True, True], [False, False, False, False]])
    assert with_next(mask).int().tolist() == [[0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]


def test_whiten_of_equal_values_is_zero_and_finite() -> None:
    assert whiten(torch.full((1, 3), 5.0), torch.ones(1, 3, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("mask", "index"),
    [
        ([1, 1, 1, 1], 3),
        ([1, 1, 0, 0], 1),  # padding on the right
        ([0, 0, 1, 1], 3),  # padding on the left: counting tokens would say 1
        ([0, 1, 1, 0], 2),  # on both sides
        ([1, 0, 0, 0], 0),
        ([1, 0, 1, 0], 2),  # a hole
    ],
)
def test_last_true_finds_the_column_wherever_the_padding_stands(mask: list[int], index: int) -> None:
    rows = torch.tensor([mask, [1, 0, 0, 0]], dtype=torch.bool)
    assert last_true(rows).tolist() == [index, 0]


def test_the_last_value_is_held_to_the_end_of_the_row() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    assert hold_last(values, mask).tolist() == [[1.0, 2.0, 2.0, 2.0], [5.0, 6.0, 7.0, 8.0]]


def test_two_answers_part_where_their_tokens_differ_or_one_has_ended() -> None:
    first = torch.tensor([[1, 5, 6, 2, 0], [1, 5, 0, 0, 0], [1, 5, 6, 7, 2]])
    second = torch.tensor([[1, 5, 8, 6, 2], [1, 5, 0, 3, 0], [1, 5, 6, 7, 2]])
    first_mask = torch.tensor([[True] * 4 + [False], [True] * 2 + [False] * 3, [True] * 5])
    second_mask = torch.tensor([[True] * 5, [True] * 4 + [False], [True] * 5])
    assert diverging_span(first, second, first_mask, second_mask).tolist() == [
        [False, False, True, True, True],  # the fourth tokens differ too; from there to the end of the longer one
        [False, False, True, True, False],  # the first has ended, though its padding looks like the second's token
        [False] * 5,  # equal
    ]


def test_whitening_may_keep_the_mean() -> None:
    # 1 and 3: mean 2, deviation 1; scaled to -1 and 1, and shifted back
    values, mask = torch.tensor([[1.0, 3.0, NAN]]), torch.tensor([[True, True, False]])
    torch.testing.assert_close(whiten(values, mask, shift_mean=False), torch.tensor([[1.0, 3.0, 0.0]]))
    torch.testing.assert_close(whiten(10 * values, mask, shift_mean=False), torch.tensor([[19.0, 21.0, 0.0]]))
