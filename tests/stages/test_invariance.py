"""How a batch is cut into micro-batches must not change what is learnt (law 6), shown over five updates."""

from collections.abc import Callable

import pytest
import torch

from rlhf.stages.interface import Stage
from tests.stages.small import drift, faults, learn, record, weights

UPDATES = 5
LEARNS_AT_ONCE = (
    *("ppo.critic_warmup=0", "ppo.learning_rate=1e-3"),
    *(f"{stage}.warmup_steps=0" for stage in ("sft", "rm", "dpo", "kto")),
)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("sft", []),
        ("rm", []),
        pytest.param(*("rm", ["rm.loss=tokenwise", "rm.score_l2=0.01", "rm.center_coef=0.01"]), marks=pytest.mark.slow),
        ("ppo", []),
        ("ppo", ["ppo.kl_estimator=k3", "ppo.entropy_coef=0.01", "ppo.score_after_end=true"]),
        pytest.param(*("ppo", ["lora=dim8", "reward_lora=dim8"]), marks=pytest.mark.slow),
        ("dpo", ["dpo.learning_rate=1e-3"]),
        pytest.param(*("kto", ["kto.learning_rate=1e-3", "kto.desirable_weight=1.3"]), marks=pytest.mark.slow),
        pytest.param(*("rloo", ["rloo.learning_rate=1e-3"]), marks=pytest.mark.slow),
        ("grpo", ["grpo.learning_rate=1e-3", "grpo.weighting=token"]),
        pytest.param(*("best_of_n", ["best_of_n.learning_rate=1e-3", "best_of_n.min_score=0"]), marks=pytest.mark.slow),
        pytest.param(*("dpo", ["dpo.loss=orpo", "dpo.likelihood=all", "dpo.learning_rate=1e-3"]), marks=pytest.mark.slow),
    ],
)
def test_micro_batches_do_not_change_five_updates(stage: str, settings: list[str], build: Callable[..., Stage]) -> None:
    learns = (*LEARNS_AT_ONCE, *settings)
    batches = record(build(stage, *learns), UPDATES)
    whole = build(stage, *learns)
    expected = learn(whole, batches, micro_batch_size=8)
    for size in (1, 3):  # 3 does not divide 8: the last micro-batch is smaller
        cut = build(stage, *learns)
        assert faults(expected, learn(cut, batches, size)) == [], size
        assert drift(weights(whole), weights(cut)) <= 1e-4, size


def test_the_updates_above_do_change_the_weights(build: Callable[..., Stage]) -> None:
    """Or the invariance would hold of a stage that learns nothing."""
    stage = build("sft", "sft.warmup_steps=0")
    before = weights(stage)
    learn(stage, record(stage, UPDATES), 8)
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(stage).items())
