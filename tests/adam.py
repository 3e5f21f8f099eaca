"""The optimizer of tests that do without a configuration."""

from dataclasses import replace
from typing import Any

from rlhf.config import Optimizer, Schedule
from rlhf.engine.optimizer import OptimizerSpec

PLAIN = OptimizerSpec(
    learning_rate=0.1,
    weight_decay=0.0,
    adam_beta1=0.9,
    adam_beta2=0.95,
    adam_eps=1e-8,
    schedule=Schedule.constant,
    schedule_power=1.0,
    schedule_cycles=1,
    warmup_steps=0,
    final_lr_fraction=0.0,
    max_grad_norm=1.0,
    optimizer=Optimizer.adamw,
    steps=100,
)


def adam(**changes: Any) -> OptimizerSpec:
    """Adam at a constant rate of 0.1, or with what ``changes`` say."""
    return replace(PLAIN, **changes)
