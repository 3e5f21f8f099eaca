"""The loss of KTO against sums worked out by hand."""

import math

import pytest
import torch

from rlhf.algorithms.prospect import kto_loss

GOOD, BAD = torch.tensor([True]), torch.tensor([False])


def loss(
    ratio: float, good: torch.Tensor, point: float = 0.0, beta: float = 0.5, weights: tuple[float, float] = (1, 1)
) -> float:
    return kto_loss(torch.tensor([ratio]), good, point, beta, *weights).item()


def test_by_hand() -> None:
    """1 - sigmoid(1) = 0.268941; the other way round its complement."""
    assert loss(2.0, GOOD) == pytest.approx(0.2689414213699951)
    assert loss(2.0, BAD) == pytest.approx(0.7310585786300049)
    assert loss(3.0, GOOD, point=1.0) == pytest.approx(0.2689414213699951)
    assert loss(-1.0, BAD, point=1.0, weights=(7.0, 3.0)) == pytest.approx(3 * 0.2689414213699951)
    assert loss(3.0, GOOD, point=1.0, weights=(7.0, 3.0)) == pytest.approx(7 * 0.2689414213699951)


def test_answers_add_up() -> None:
    ratios, good = torch.tensor([0.3, -2.0, 1.0]), torch.tensor([True, False, False])
    whole = kto_loss(ratios, good, 0.4, 0.3, 1.2, 0.8).item()
    single = [kto_loss(ratio[None], kind[None], 0.4, 0.3, 1.2, 0.8).item() for ratio, kind in zip(ratios, good, strict=True)]
    assert whole == pytest.approx(sum(single))


@pytest.mark.parametrize("good", [GOOD, BAD])
def test_the_pull_is_greatest_at_the_reference_point_and_vanishes_far_from_it(good: torch.Tensor) -> None:
    """Its slope is beta times v (1 - v): a quarter of beta at the point; an answer that is hopeless or safe teaches nothing."""
    slopes = []
    for ratio in (1.0, 41.0, -39.0):
        answer = torch.tensor([ratio], requires_grad=True)
        kto_loss(answer, good, 1.0, 0.5, 1.0, 1.0).backward()
        assert answer.grad is not None
        slopes.append(answer.grad.item())
    sign = -1 if good.item() else 1
    assert slopes == pytest.approx([sign * 0.5 / 4, 0.0, 0.0], abs=1e-8)


def test_nothing_overflows() -> None:
    assert [loss(1e4, GOOD), loss(1e4, BAD)] == [0.0, 1.0]
    assert math.isfinite(loss(-1e4, GOOD))
