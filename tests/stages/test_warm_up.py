"""A warm-up that never ends is named, if it was typed."""

from collections.abc import Callable

import pytest

from rlhf import chain, provenance
from rlhf.config import Run


@pytest.mark.parametrize(("typed", "told"), [(["sft.warmup_steps=100000"], True), (["debug=smoke"], False)])
def test_a_warm_up_longer_than_the_run_is_named(
    typed: list[str], told: bool, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    with provenance.overridden_by(typed):
        chain.execute(make_run("stage=sft", *typed))
    said = "sft.warmup_steps=100000: the run has 2 optimizer steps, so the learning rate does not get to its peak"
    assert (said in capsys.readouterr().err) == told
