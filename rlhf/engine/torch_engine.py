"""Plain torch on one device: no ranks, no sharding."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from rlhf.engine.base import Engine, Item, N, T, Trainable, trained
from rlhf.engine.loss_scale import LossScale
from rlhf.engine.norm import clip, total_norm
from rlhf.engine.optimizer import optimizer_of
from rlhf.engine.placement import AUTO
from rlhf.metrics import Mean, Metric, Metrics, Total

MOMENTS = ("exp_avg", "exp_avg_sq", *("state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2"))
"""Of AdamW, and of its 8-bit form."""


@final
class TorchEngine(Engine):
    """One process that holds everything."""

    _trainable: dict[str, Trainable] = {}
    _optimizers: dict[str, torch.optim.Optimizer] = {}
    _scale: LossScale | None = None

    @override
    def place(self, module: nn.Module) -> None:
        module.to(self.device)

    @override
    def freeze(self, module: nn.Module, where: str = AUTO) -> None:
        self.placement.put(module, where, None)

    @override
    def prepare(self, trainable: dict[str, Trainable]) -> None:
        self._trainable = trainable
        self._optimizers = {name: optimizer_of(each.module, each.optimizer) for name, each in trainable.items()}
        self._scale = LossScale() if self.format is torch.float16 else None

    @override
    def forward(self, function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
        with self.computing():
            return self.placement.run(function, module, *arguments)

    @override
    @contextmanager
    def whole(self, module: N) -> Iterator[N]:
        with torch.no_grad(), self.computing(), self.placement.at_home(module):
            yield module

    @override
    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        return module.state_dict()

    @override
    def put(self, module: nn.Module, weights: dict[str, Tensor]) -> None:
        names = dict(module.named_parameters())
        with torch.no_grad():
            for name, value in weights.items():
                names[name].copy_(value)

    @override
    def backward(self, losses: dict[str, Tensor], last: bool = True) -> None:
        assert self._trainable, "a stage hands what it trains to prepare"
        scale = 1.0 if self._scale is None else self._scale.value
        (torch.stack(list(losses.values())).sum() * scale).backward()

    @override
    def step(self) -> Metrics:
        metrics: dict[str, Metric] = {}
        scale = 1.0 if self._scale is None else self._scale.value
        norms = {name: norm for name, each in self._trainable.items() if (norm := _clip(each, scale)) is not None}
        overflowed = self._scale is not None and not all(map(math.isfinite, norms.values()))
        for name, norm in norms.items():
            rate = self._trainable[name].optimizer.learning_rate_at(self.steps)
            for group in self._optimizers[name].param_groups:
                group["lr"] = rate
            if not overflowed:
                self._optimizers[name].step()
                metrics |= {f"grad_norm/{name}": Mean(norm, 1), f"learning_rate/{name}": Mean(rate, 1)}
            self._optimizers[name].zero_grad(set_to_none=True)
        if self._scale is not None:
            metrics |= {"val/overflow_steps": Total(overflowed), "val/loss_scale": Mean(scale, 1)}
            self._scale.update(overflowed)
        self.steps += 1
        return Metrics(metrics)

    @override
    def tensors(self) -> dict[str, Tensor]:
        flat = {}
        for name, each in self._trainable.items():
            for key, parameter in trained(each.module):
                flat[f"{name}/weights/{key}"] = parameter.detach()
                for moment, value in self._optimizers[name].state.get(parameter, {}).items():
                    flat[f"{name}/{moment}/{key}"] = torch.as_tensor(value)
        return flat if self._scale is None else flat | {"loss_scale": self._scale.tensor()}

    @override
    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        self.steps = steps
        if self._scale is not None:
            self._scale.load(tensors["loss_scale"])
        for name, each in self._trainable.items():
            state = self._optimizers[name].state
            for key, parameter in trained(each.module):
                with torch.no_grad():
                    parameter.copy_(tensors[f"{name}/weights/{key}"])
                moments = {moment: tensors.get(f"{name}/{moment}/{key}") for moment in MOMENTS}
                if (step := tensors.get(f"{name}/step/{key}")) is None:
                    continue
                state[parameter] = {
                    moment: value.to(self.device, copy=True) for moment, value in moments.items() if value is not None
                }
                # bitsandbytes counts in a plain number
                state[parameter]["step"] = step.clone() if step.is_floating_point() else int(step)

    @override
    def spread(self, items: Sequence[Item], work: Callable[[Item], T], networks: bool = True) -> list[T]:
        return [work(item) for item in items]

    @override
    def total(self, metrics: Metrics) -> Metrics:
        return metrics

    @override
    def agree(self, wish: bool) -> bool:
        return wish

    @override
    def release(self) -> None:
        self._trainable, self._optimizers = {}, {}


def _clip(each: Trainable, scale: float) -> float | None:
    """Undo the loss scale and clip; the norm before, or None for a module without gradients."""
    gradients = [parameter.grad for parameter in each.module.parameters() if parameter.grad is not None]
    if not gradients:  # a module the loss left alone, such as the policy in the critic's warm-up
        return None
    if scale != 1.0:
        torch._foreach_div_(gradients, scale)
    norm = total_norm(gradients)
    clip(gradients, norm, each.optimizer.max_grad_norm)
    return norm
