"""Gradient norms of large tensors."""

import pytest
import torch

from rlhf.engine.norm import clip, total_norm


def test_the_norm_of_many_numbers_is_what_their_count_says() -> None:
    """In float32 a CPU sums these squares to something else (torch 2.13: 1 % off)."""
    gradients = [torch.full((2**24,), 1e-3), torch.full((3,), 2.0)]
    assert total_norm(gradients) == pytest.approx((2**24 * float(torch.tensor(1e-3)) ** 2 + 12) ** 0.5, rel=1e-9)


def test_norms_are_clipped_down_and_never_up() -> None:
    gradients = [torch.tensor([3.0]), torch.tensor([4.0])]
    clip(gradients, 5.0, float("inf"))
    clip(gradients, 5.0, 6.0)
    assert [each.item() for each in gradients] == [3.0, 4.0]
    clip(gradients, 5.0, 1.0)
    assert [each.item() for each in gradients] == pytest.approx([0.6, 0.8])


def test_what_is_no_number_stays_none() -> None:
    gradients = [torch.tensor([float("nan"), 1.0])]
    clip(gradients, total_norm(gradients), 1.0)
    assert gradients[0].isnan().all()
