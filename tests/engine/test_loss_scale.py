"""The dynamic loss scale by hand."""

import pytest

from rlhf.engine.base import NonFinite
from rlhf.engine.loss_scale import LEAST, START, WINDOW, LossScale


def test_it_halves_on_an_overflow_and_doubles_after_a_window_without_one() -> None:
    scale = LossScale()
    scale.update(overflowed=True)
    assert scale.value == START / 2
    for _ in range(WINDOW - 1):
        scale.update(overflowed=False)
    assert scale.value == START / 2
    scale.update(overflowed=False)
    assert scale.value == START


def test_a_loaded_scale_goes_on_where_the_saved_one_stood() -> None:
    first, second = LossScale(), LossScale()
    for _ in range(WINDOW - 1):
        first.update(overflowed=False)
    second.load(first.tensor())
    second.update(overflowed=False)
    assert second.value == START * 2


def test_an_overflow_at_the_smallest_scale_ends_the_run() -> None:
    scale = LossScale()
    while scale.value > LEAST:
        scale.update(overflowed=True)
    with pytest.raises(NonFinite, match="the smallest loss scale; use precision=bf16"):
        scale.update(overflowed=True)
