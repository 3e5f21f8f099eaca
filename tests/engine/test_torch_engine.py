"""Steps, clipping and continuation of the plain engine."""

import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from rlhf.config import Device, Optimizer, Precision, Schedule
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from tests.adam import adam

SPEC = adam(learning_rate=0.05, weight_decay=0.01, schedule=Schedule.linear, warmup_steps=2, steps=10)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 1))


def engine_of(spec: OptimizerSpec = SPEC, precision: Precision = Precision.fp32, **modules: nn.Module) -> TorchEngine:
    engine = TorchEngine(Device.cpu, precision, deterministic=False)
    engine.prepare({name: Trainable(module, spec) for name, module in modules.items()})
    return engine


def learn(engine: TorchEngine, module: nn.Module, steps: range) -> list[dict[str, float]]:
    rows = []
    for step in steps:
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        engine.backward({"policy": (module(inputs) - inputs.sum(1, keepdim=True)).square().mean()})
        rows.append(engine.step().values_by_name())
    return rows


def test_ten_steps_in_one_go_and_in_two_end_with_the_same_bytes() -> None:
    whole = network(0)
    engine = engine_of(policy=whole)
    rows = learn(engine, whole, range(10))

    first = network(0)
    before = engine_of(policy=first)
    learn(before, first, range(4))
    kept = {name: tensor.clone() for name, tensor in before.tensors().items()}
    second = network(1)  # other weights: all of them must come from what was kept
    after = engine_of(policy=second)
    after.load(kept, before.steps)
    assert learn(after, second, range(4, 10)) == rows[4:]
    assert after.steps == 10
    for name, tensor in engine.tensors().items():
        assert torch.equal(tensor, after.tensors()[name]), name


def test_what_is_kept_are_weights_and_both_moments_and_loading_copies_them() -> None:
    module = network(0)
    engine = engine_of(policy=module)
    learn(engine, module, range(1))
    kept = {name: tensor.clone() for name, tensor in engine.tensors().items()}
    assert {name.split("/")[1] for name in kept} == {"weights", "step", "exp_avg", "exp_avg_sq"}
    assert len(kept) == 4 * len(list(module.parameters()))
    other = network(1)
    after = engine_of(policy=other)
    after.load(kept, 1)
    snapshot = {name: tensor.clone() for name, tensor in kept.items()}
    learn(after, other, range(1, 3))
    assert all(torch.equal(kept[name], snapshot[name]) for name in kept)


def test_a_missing_weight_is_an_error() -> None:
    module = network(0)
    engine = engine_of(policy=module)
    kept = engine.tensors()
    del kept["policy/weights/0.bias"]
    with pytest.raises(KeyError, match=r"0\.bias"):
        engine.load(kept, 0)


def test_gradients_are_scaled_down_to_the_norm_and_never_up() -> None:
    # plain values: gradient (3, 4) has norm 5; with a limit of 1 Adam's first moment holds (1 - 0.9) * (0.6, 0.8)
    for limit, scaled in ((1.0, [0.06, 0.08]), (10.0, [0.3, 0.4])):
        module = nn.Linear(2, 1, bias=False)
        engine = engine_of(replace(SPEC, max_grad_norm=limit), policy=module)
        engine.backward({"policy": (module.weight * torch.tensor([[3.0, 4.0]])).sum()})
        metrics = engine.step().values_by_name()
        assert metrics["grad_norm/policy"] == pytest.approx(5.0)
        assert engine.tensors()["policy/exp_avg/weight"].tolist() == [pytest.approx(scaled, rel=1e-4)]


def test_norms_are_clipped_module_by_module() -> None:
    small, large = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    engine = engine_of(policy=small, critic=large)
    engine.backward({"policy": (small.weight * 0.5).sum(), "critic": (large.weight * 100.0).sum()})
    metrics = engine.step().values_by_name()
    assert (metrics["grad_norm/policy"], metrics["grad_norm/critic"]) == (pytest.approx(0.5), pytest.approx(100.0))
    assert engine.tensors()["policy/exp_avg/weight"].item() == pytest.approx(0.05)  # untouched by the other's size


def test_a_module_without_gradients_is_not_stepped() -> None:
    policy, critic = network(0), network(1)
    engine = engine_of(policy=policy, critic=critic)
    before = [parameter.detach().clone() for parameter in policy.parameters()]
    rows = learn(engine, critic, range(2))
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))  # no weight decay either
    assert set(rows[0]) == {"grad_norm/critic", "learning_rate/critic"}
    assert not any(name.startswith("policy/exp_avg") for name in engine.tensors())
    assert engine.steps == 2
    learn(engine, policy, range(1))
    assert not torch.equal(before[0], next(policy.parameters()))


def test_gradients_add_up_until_the_step_and_are_cleared_by_it() -> None:
    module = nn.Linear(1, 1, bias=False)
    engine = engine_of(policy=module)
    for _ in range(3):
        engine.backward({"policy": (module.weight * 0.25).sum()})
    assert engine.step()["grad_norm/policy"].value == pytest.approx(0.75)
    assert module.weight.grad is None


def test_the_rate_of_each_step_is_the_schedules() -> None:
    module = network(0)
    rows = learn(engine_of(policy=module), module, range(4))
    rates = [row["learning_rate/policy"] for row in rows]
    assert rates == pytest.approx([0.025, 0.05, 0.05, 0.05 * 7 / 8])


def test_precision_is_that_of_the_forward_pass_only() -> None:
    module = network(0)
    engine = engine_of(precision=Precision.bf16, policy=module)
    with engine.computing():
        output: Tensor = module(torch.ones(2, 3))
    assert output.dtype == torch.bfloat16
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    plain = engine_of(policy=module)
    with plain.computing():
        assert module(torch.ones(2, 3)).dtype == torch.float32


def test_peak_memory_is_known_on_linux() -> None:
    engine = engine_of(policy=network(0))
    engine.reset_peak_memory()
    peak = engine.peak_memory_gib()
    assert peak is None or peak > 0


def test_time_and_memory_are_counted_to_the_phase_they_fall_in() -> None:
    engine = engine_of(policy=network(0))
    engine.reset_peak_memory()
    if engine.peak_memory_gib() is None:
        pytest.skip("no peak memory on this system")
    with engine.phase("rollout"):
        large = torch.ones(2**26)  # 256 MiB
        del large
    with engine.phase("score"):
        time.sleep(0.01)
    costs = engine.take_costs()
    assert costs["time/score_s"] > 0 and engine.phase_seconds == costs["time/rollout_s"] + costs["time/score_s"]
    assert costs["mem/rollout_gib"] > max(costs["mem/score_gib"], costs["mem/train_gib"]) + 0.2
    assert engine.peak_memory_gib() == costs["mem/rollout_gib"]
    assert [name for name in engine.take_costs() if name.startswith("time/")] == []  # each second is given once


def fp16(**modules: nn.Module) -> TorchEngine:
    """An engine in fp16, which runs on a CPU in tests only."""
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
    engine.format = torch.float16
    engine.prepare({name: Trainable(module, SPEC) for name, module in modules.items()})
    return engine


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(Fault, match="precision=fp16: needs a GPU"):
        TorchEngine(Device.cpu, Precision.fp16, deterministic=False)


def test_the_loss_scale_leaves_a_step_as_it_is() -> None:
    plain, scaled = network(0), network(0)
    first, second = engine_of(policy=plain), fp16(policy=scaled)
    assert learn(second, scaled, range(1))[0]["grad_norm/policy"] == pytest.approx(
        learn(first, plain, range(1))[0]["grad_norm/policy"], rel=1e-6
    )
    torch.testing.assert_close(second.tensors()["policy/weights/0.weight"], first.tensors()["policy/weights/0.weight"])


def test_an_overflow_in_one_module_skips_the_step_of_all_and_halves_the_scale() -> None:
    policy, critic = network(0), network(1)
    engine = fp16(policy=policy, critic=critic)
    before = [parameter.detach().clone() for parameter in (*policy.parameters(), *critic.parameters())]
    engine.backward({"policy": policy(torch.ones(1, 3)).sum(), "critic": critic(torch.ones(1, 3)).sum() * float("inf")})
    assert engine.step().values_by_name() == {"val/overflow_steps": 1.0, "val/loss_scale": 2.0**16}
    assert all(torch.equal(*pair) for pair in zip(before, (*policy.parameters(), *critic.parameters()), strict=True))
    assert engine.steps == 1 and not any("exp_avg" in name for name in engine.tensors())
    row = learn(engine, policy, range(1))[0]
    assert (row["val/overflow_steps"], row["val/loss_scale"]) == (0.0, 2.0**15)
    again = fp16(policy=network(0), critic=network(1))
    again.load({name: tensor.clone() for name, tensor in engine.tensors().items()}, engine.steps)
    assert torch.equal(again.tensors()["loss_scale"], engine.tensors()["loss_scale"])


def test_moments_in_eight_bits_go_on_from_a_checkpoint() -> None:
    pytest.importorskip("bitsandbytes", reason="adamw_8bit needs bitsandbytes")
    spec = replace(SPEC, optimizer=Optimizer.adamw_8bit)

    def wide(seed: int) -> nn.Sequential:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 2048), nn.Tanh(), nn.Linear(2048, 1))  # smaller weights keep whole moments

    whole, first, second = wide(0), wide(0), wide(1)
    engine, before, after = (engine_of(spec, policy=each) for each in (whole, first, second))
    rows = learn(engine, whole, range(6))
    learn(before, first, range(3))
    assert before.tensors()["policy/state1/0.weight"].dtype is torch.uint8
    after.load({name: tensor.clone() for name, tensor in before.tensors().items()}, before.steps)
    assert learn(after, second, range(3, 6)) == rows[3:]
    assert all(torch.equal(tensor, after.tensors()[name]) for name, tensor in engine.tensors().items())
