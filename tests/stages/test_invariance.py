"""How a batch is cut into micro-batches must not change what is learnt (law 6), shown over five updates."""

from collections.abc import Callable

import pytest
import torch

from rlhf.metrics import Mean, Metrics
from rlhf.stages.interface import Batch, Stage

UPDATES = 5


def learn(stage: Stage, batches: list[Batch], micro_batch_size: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Five optimizer steps on recorded batches; the loss and gradient norms of each, and the final weights."""
    engine = stage._setting.engine
    rows = []
    for batch in batches:
        metrics = Metrics()
        for micro in batch.split(micro_batch_size):
            loss, _ = stage.loss(micro)
            engine.backward(loss / batch.weight)
            metrics += {"loss": Mean(loss.item(), micro.weight)}
        rows.append((metrics + engine.step()).values_by_name())
    return rows, {name: tensor.clone() for name, tensor in engine.tensors().items() if "/weights/" in name}


@pytest.mark.parametrize("stage", ["sft", "rm", "ppo"])
def test_micro_batches_do_not_change_five_updates(stage: str, build: Callable[..., Stage]) -> None:
    overrides = (
        "ppo.critic_warmup=0",
        "ppo.learning_rate=1e-3",
        "sft.warmup_steps=0",
        "rm.warmup_steps=0",
        f"{stage}.save_every=1",
    )
    recorder = build(stage, *overrides)
    batches = [batch for _, batch in zip(range(UPDATES), recorder.batches(0), strict=False)]
    whole_rows, whole = learn(build(stage, *overrides), batches, micro_batch_size=8)
    for size in (1, 2, 3):  # 3 does not divide 8: the last micro-batch is smaller
        rows, weights = learn(build(stage, *overrides), batches, micro_batch_size=size)
        for expected, got in zip(whole_rows, rows, strict=True):
            for name, value in expected.items():
                assert abs(got[name] - value) <= 1e-5 * max(0.1, abs(value)), (size, name)
        for name, tensor in whole.items():
            difference = (weights[name] - tensor).norm() / tensor.norm().clamp(min=1e-12)
            assert difference <= 1e-4, (size, name)


def test_the_updates_above_do_change_the_weights(build: Callable[..., Stage]) -> None:
    """Or the invariance would hold of a stage that learns nothing."""
    stage = build("sft", "sft.warmup_steps=0")
    before = {name: tensor.clone() for name, tensor in stage._setting.engine.tensors().items()}
    _, after = learn(stage, [batch for _, batch in zip(range(UPDATES), stage.batches(0), strict=False)], 8)
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
