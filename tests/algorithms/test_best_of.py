"""The best of several, by hand and by trying every choice."""

import itertools
import math

import pytest
import torch

from rlhf.algorithms.best_of import best, expected_best, kl_bound


def test_the_best_allowed_one_is_kept_and_the_first_of_equals() -> None:
    scores = torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, 4.0], [1.0, 1.0, 0.0], [9.0, 9.0, 9.0]])
    allowed = torch.tensor([[True, True, True], [False, True, True], [True, True, True], [False, False, False]])
    places, found = best(scores, allowed)
    assert places[:3].tolist() == [1, 1, 0] and found.tolist() == [True, True, True, False]


def test_three_scores_by_hand() -> None:
    """The better of each of the three pairs of 1, 2 and 4 is 2, 4 and 4; what they are worth to another judge goes along."""
    scores, worth = torch.tensor([[2.0, 4.0, 1.0]]), torch.tensor([[20.0, 0.0, 10.0]])
    assert [expected_best(scores, scores, size).item() for size in (1, 2, 3)] == pytest.approx([7 / 3, 10 / 3, 4])
    assert [expected_best(scores, worth, size).item() for size in (1, 2, 3)] == pytest.approx([10, 20 / 3, 0])


@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_it_is_the_mean_over_every_choice(size: int) -> None:
    drawn = torch.Generator().manual_seed(size)
    scores, worth = torch.randn(3, 7, generator=drawn), torch.randn(3, 7, generator=drawn)
    chosen = torch.tensor(list(itertools.combinations(range(7), size)))
    places = scores[:, chosen].argmax(2)  # [G, choices]
    expected = worth[:, chosen].gather(2, places[:, :, None]).squeeze(2).mean(1)
    torch.testing.assert_close(expected_best(scores, worth, size), expected.double(), atol=1e-6, rtol=0)


def test_the_bound() -> None:
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(math.log(2) - 0.5)
