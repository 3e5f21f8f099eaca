"""Plain torch on one device: no ranks, no sharding."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from rlhf.engine.base import Engine, Item, N, T, Trainable, trained
from rlhf.engine.optimizer import adamw
from rlhf.metrics import Mean, Metrics

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@final
class TorchEngine(Engine):
    """One process that holds everything."""

    _trainable: dict[str, Trainable] = {}
    _optimizers: dict[str, torch.optim.AdamW] = {}

    @override
    def place(self, module: nn.Module) -> None:
        module.to(self.device)

    @override
    def freeze(self, module: nn.Module) -> None:
        module.to(self.device).eval().requires_grad_(False)

    @override
    def prepare(self, trainable: dict[str, Trainable]) -> None:
        self._trainable = trainable
        self._optimizers = {name: adamw(each.module, each.optimizer) for name, each in trainable.items()}

    @override
    def forward(self, function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
        with self.computing():
            return function(module, *arguments)

    @override
    @contextmanager
    def whole(self, module: N) -> Iterator[N]:
        with torch.no_grad(), self.computing():
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
        torch.stack(list(losses.values())).sum().backward()

    @override
    def step(self) -> Metrics:
        metrics = {}
        for name, each in self._trainable.items():
            parameters = [parameter for parameter in each.module.parameters() if parameter.grad is not None]
            if not parameters:  # a module the loss left alone, such as the policy in the critic's warm-up
                continue
            norm = nn.utils.clip_grad_norm_(parameters, each.optimizer.max_grad_norm).item()
            rate = each.optimizer.learning_rate_at(self.steps)
            for group in self._optimizers[name].param_groups:
                group["lr"] = rate
            self._optimizers[name].step()
            self._optimizers[name].zero_grad(set_to_none=True)
            metrics[f"grad_norm/{name}"] = Mean(norm, 1)
            metrics[f"learning_rate/{name}"] = Mean(rate, 1)
        self.steps += 1
        return Metrics(metrics)

    @override
    def tensors(self) -> dict[str, Tensor]:
        flat = {}
        for name, each in self._trainable.items():
            for key, parameter in trained(each.module):
                flat[f"{name}/weights/{key}"] = parameter.detach()
                for moment, value in self._optimizers[name].state.get(parameter, {}).items():
                    flat[f"{name}/{moment}/{key}"] = value
        return flat

    @override
    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        self.steps = steps
        for name, each in self._trainable.items():
            state = self._optimizers[name].state
            for key, parameter in trained(each.module):
                with torch.no_grad():
                    parameter.copy_(tensors[f"{name}/weights/{key}"])
                moments = {moment: tensors.get(f"{name}/{moment}/{key}") for moment in MOMENTS}
                if moments["step"] is not None:
                    state[parameter] = {
                        moment: value.clone() if moment == "step" else value.to(self.device, copy=True)
                        for moment, value in moments.items()
                        if value is not None
                    }

    @override
    def spread(self, items: Sequence[Item], work: Callable[[Item], T]) -> list[T]:
        return [work(item) for item in items]

    @override
    def total(self, metrics: Metrics) -> Metrics:
        return metrics

    @override
    def agree(self, wish: bool) -> bool:
        return wish
