"""The learning rate as a function of the step, and what weight decay touches."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rlhf.config import Schedule
from rlhf.engine.optimizer import optimizer_of
from tests.adam import adam

SPEC = adam(learning_rate=1.0, weight_decay=0.1, schedule=Schedule.linear, warmup_steps=2, final_lr_fraction=0.1, steps=10)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # warm-up over 2 steps: 1/2, 1; then 8 steps of decay: step 6 has done half of it, step 10 would be its end
        (Schedule.constant, {0: 0.5, 1: 1.0, 2: 1.0, 6: 1.0, 10: 1.0}),
        (Schedule.linear, {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.1 + 0.9 * 0.75, 6: 0.1 + 0.9 * 0.5, 10: 0.1}),
        (
            Schedule.cosine,
            {0: 0.5, 1: 1.0, 2: 1.0, 4: 0.1 + 0.9 * 0.8535534, 6: 0.1 + 0.9 * 0.5, 10: 0.1},
        ),  # (1 + cos(pi/4)) / 2
        (Schedule.polynomial, {0: 0.5, 2: 1.0, 4: 0.1 + 0.9 * 0.5625, 6: 0.1 + 0.9 * 0.25, 10: 0.1}),  # squared
        (Schedule.cosine_restarts, {0: 0.5, 2: 1.0, 4: 0.1 + 0.9 * 0.5, 6: 1.0, 8: 0.1 + 0.9 * 0.5, 10: 0.1, 99: 0.1}),  # twice
    ],
)
def test_learning_rates_by_hand(schedule: Schedule, rates: dict[int, float]) -> None:
    spec = replace(SPEC, schedule=schedule, schedule_power=2.0, schedule_cycles=2)
    assert {step: spec.learning_rate_at(step) for step in rates} == pytest.approx(rates)


def test_the_rate_stays_at_its_end_and_never_divides_by_zero() -> None:
    assert SPEC.learning_rate_at(1000) == pytest.approx(0.1)
    assert replace(SPEC, warmup_steps=0).learning_rate_at(0) == 1.0
    assert replace(SPEC, warmup_steps=10).learning_rate_at(9) == 1.0


def test_weight_decay_is_on_matrices_only() -> None:
    module = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    decayed, plain = optimizer_of(module, SPEC).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert {id(each) for each in decayed["params"]} == {id(module[0].weight), id(module[1].weight)}
    assert {id(each) for each in plain["params"]} == {id(module[1].bias), id(module[2].weight), id(module[2].bias)}


def test_frozen_parameters_have_no_optimizer_state() -> None:
    module = nn.Linear(4, 3)
    module.weight.requires_grad_(False)
    (only,) = optimizer_of(module, SPEC).param_groups
    assert [id(each) for each in only["params"]] == [id(module.bias)]


def test_a_step_moves_by_the_formula_of_adamw() -> None:
    # first step: m / (1 - b1) = g, v / (1 - b2) = g^2, so w <- w - lr * weight_decay * w - lr * g / (|g| + eps)
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(2.0)
        module.bias.fill_(2.0)
    optimizer = optimizer_of(module, SPEC)
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    module.weight.grad, module.bias.grad = torch.tensor([[3.0]]), torch.tensor([-3.0])
    optimizer.step()
    assert module.weight.item() == pytest.approx(2.0 - 0.5 * 0.1 * 2.0 - 0.5, abs=1e-6)
    assert module.bias.item() == pytest.approx(2.0 + 0.5, abs=1e-6)


def of_torch(t: int, gradient: float, eps: float) -> float:
    """How far step ``t`` of equal gradients goes, over the learning rate: eps stands beside the corrected root."""
    return gradient / (gradient + eps)


def of_tensorflow(t: int, gradient: float, eps: float) -> float:
    """The same with eps beside the root that is not corrected: early steps see it sqrt(1 - beta2^t) times as large."""
    return gradient / (gradient + eps / (1 - 0.999**t) ** 0.5)


@pytest.mark.parametrize(
    ("eps", "first", "in_tensorflow"), [(1e-8, 0.999, 0.9694), (1e-5, 0.5, 0.03065), (1e-3, 0.0099, 3.161e-4)]
)
def test_epsilon_counts_as_in_torch(eps: float, first: float, in_tensorflow: float) -> None:
    """Gradients of 1e-5, as in RLHF (Huang et al. 2023, "The N Implementation Details", the last of them)."""
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    optimizer = optimizer_of(module, replace(SPEC, adam_beta1=0.9, adam_beta2=0.999, adam_eps=eps, weight_decay=0.0))
    for group in optimizer.param_groups:
        group["lr"] = 1.0
    assert (of_torch(1, 1e-5, eps), of_tensorflow(1, 1e-5, eps)) == pytest.approx((first, in_tensorflow), rel=1e-2)
    for step in range(1, 6):
        before = module.weight.item()
        module.weight.grad = torch.tensor([[1e-5]])
        optimizer.step()
        assert before - module.weight.item() == pytest.approx(of_torch(step, 1e-5, eps), rel=1e-4)
