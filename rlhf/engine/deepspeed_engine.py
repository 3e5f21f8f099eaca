"""DeepSpeed ZeRO 0-3 (Rajbhandari et al. 2020), with offload, over one or more ranks.

Gradients are summed over ranks: a stage divides its loss by the whole batch, and DeepSpeed, which averages, is handed the
loss times the number of ranks. Clipping, weight decay and AdamW are those of the plain engine, so that in fp32 all stages
of ZeRO and all numbers of ranks compute the same, up to rounding. In bf16, ZeRO 1-3 keep bf16 weights beside fp32 ones;
ZeRO 0 computes as plain torch does.
"""

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.runtime.zero.stage3 import unwrap_model_for_generation
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from typing_extensions import override

from rlhf.config import Run
from rlhf.engine.base import Engine, Item, N, T, Trainable, trained
from rlhf.engine.builds import watch_builds
from rlhf.engine.deepspeed_settings import Settings
from rlhf.engine.loss_scale import LossScale
from rlhf.engine.norm import clip, total_norm
from rlhf.engine.optimizer import optimizer_of
from rlhf.engine.placement import AUTO, Placement
from rlhf.fault import Fault
from rlhf.metrics import Mean, Metric, Metrics, Total

MOMENTS = ("exp_avg", "exp_avg_sq")


class _Host(nn.Module):
    """Makes any function of a network the forward pass that DeepSpeed sees, with its hooks around it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, function: Callable[..., T], *arguments: object) -> T:
        return function(self.network, *arguments)


@final
class DeepSpeedEngine(Engine):
    """One process of a group in which each holds a part."""

    def __init__(self, run: Run) -> None:
        super().__init__(run.device, run.precision, run.deterministic)
        self._zero, self._settings = int(run.zero.value), Settings(run)
        if self.device.type == "cuda":
            if int(os.environ["LOCAL_WORLD_SIZE"]) > torch.cuda.device_count():
                raise Fault(f"ranks={os.environ['LOCAL_WORLD_SIZE']}: this machine has {torch.cuda.device_count()} GPUs")
            self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(self.device)
        else:
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else compiled for minutes at the first start
        logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo")
        watch_builds()
        deepspeed.init_distributed(auto_mpi_discovery=False)
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.placement = Placement(self.device)
        self._low = self.format is not None and self._zero > 0
        self._scale: LossScale | None = None
        self._trainable: dict[str, Trainable] = {}
        self._hosts: dict[nn.Module, Any] = {}
        self._waiting: set[str] = set()

    # networks

    @override
    def place(self, module: nn.Module) -> None:
        if self._zero < 3:  # else DeepSpeed moves each rank's part, and the whole may not fit
            module.to(self.device)

    @override
    def freeze(self, module: nn.Module, where: str = AUTO) -> None:
        if self._zero < 3:
            self.placement.put(module, where, self.format if self._low else None)
            return
        module.eval().requires_grad_(False)
        config = self._settings.frozen(module, self.device, where)
        self._hosts[module], *_ = deepspeed.initialize(model=_Host(module), config=config)

    @override
    def prepare(self, trainable: dict[str, Trainable]) -> None:
        self._trainable = trainable
        self._scale = LossScale() if self.format is torch.float16 else None
        for each in trainable.values():
            host, optimizer = _Host(each.module), optimizer_of(each.module, each.optimizer)
            self._hosts[each.module], *_ = deepspeed.initialize(
                model=host, optimizer=optimizer, config=self._settings.trained(each.module, self.device, each.optimizer)
            )

    @override
    def forward(self, function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
        with self.computing():
            host = self._hosts.get(module)
            if host is None:
                return self.placement.run(function, module, *arguments)
            result: T = host(function, *arguments)
            return result

    @override
    @contextmanager
    def computing(self) -> Iterator[None]:
        with torch.autocast(self.device.type, self.format, enabled=self.format is not None and not self._low):
            yield

    @override
    @contextmanager
    def whole(self, module: N) -> Iterator[N]:
        host = self._hosts.get(module)
        if host is None or self._zero < 3:
            with torch.no_grad(), self.computing(), self.placement.at_home(module):
                yield module
            return
        # Gathered once, without DeepSpeed's hooks: they would let go of each layer after its first use and fetch it again for
        # every token, and the ranks, whose responses differ in length, would wait for each other.
        with unwrap_model_for_generation(host), torch.no_grad():
            yield module

    @override
    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        names = dict(module.named_parameters(remove_duplicate=False))  # tied weights under each of their names
        full: dict[nn.Parameter, Tensor] = {}
        for parameter in names.values():
            if parameter not in full:
                full[parameter] = self._full(parameter).cpu()
        buffers = {name: value.cpu() for name, value in module.state_dict().items() if name not in names}
        return {**{name: full[parameter] for name, parameter in names.items()}, **buffers}

    @override
    def put(self, module: nn.Module, weights: dict[str, Tensor]) -> None:
        names = dict(module.named_parameters())
        for name, value in weights.items():
            parameter = names[name]
            with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], 0, enabled=self._zero == 3):
                parameter.copy_(value)

    def _full(self, parameter: nn.Parameter) -> Tensor:
        full: Tensor | None = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
        if full is None:
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._zero == 3):
                full = parameter.detach().float().clone()
        return full.detach().reshape(getattr(parameter, "ds_shape", parameter.shape))

    # steps

    @override
    def backward(self, losses: dict[str, Tensor], last: bool = True) -> None:
        for name, loss in losses.items():
            host = self._hosts[self._trainable[name].module]
            host.set_gradient_accumulation_boundary(last)
            scale = float(self.ranks)
            if self._scale is not None and self._zero == 0:
                scale *= self._scale.value
            elif self._scale is not None:
                host.optimizer.loss_scaler.cur_scale = self._scale.value
            host.backward(loss * scale)
            self._waiting.add(name)

    @override
    def step(self) -> Metrics:
        metrics: dict[str, Metric] = {}
        # without those that the loss left alone, such as the policy in the critic's warm-up
        hosts = {name: self._hosts[each.module] for name, each in self._trainable.items() if name in self._waiting}
        norms = {name: self._unscaled_norm(name) for name in hosts} if self._zero == 0 else {}
        overflowed = self._overflowed(hosts, norms) if self._scale is not None else False
        for name, host in hosts.items():
            rate = self._trainable[name].optimizer.learning_rate_at(self.steps)
            for group in host.optimizer.param_groups:
                group["lr"] = rate
            if self._scale is not None and self._zero > 0:
                host.optimizer.has_overflow = lambda *_, skip=overflowed: skip  # one that overflows skips for all
            if overflowed and self._zero == 0:
                host.optimizer.zero_grad(set_to_none=True)
            else:
                if self._zero == 0:
                    clip(self._gradients(name), norms[name], self._trainable[name].optimizer.max_grad_norm)
                host.step()
            if not overflowed:
                whole = self._zero == 0
                skipped = not whole and host.optimizer.overflow  # DeepSpeed passes over infinite bf16 gradients in silence
                norm = norms[name] if whole else math.inf if skipped else float(host.get_global_grad_norm())
                metrics |= {f"grad_norm/{name}": Mean(norm, 1), f"learning_rate/{name}": Mean(rate, 1)}
        if self._scale is not None:
            metrics |= {"val/overflow_steps": Total(overflowed), "val/loss_scale": Mean(self._scale.value, 1)}
            self._scale.update(overflowed)
        self._waiting.clear()
        self.steps += 1
        return Metrics(metrics)

    def _unscaled_norm(self, name: str) -> float:
        """Under ZeRO 0: undo the loss scale, and the norm of the gradients."""
        gradients = self._gradients(name)
        if self._scale is not None:
            torch._foreach_div_(gradients, self._scale.value)
        return total_norm(gradients)

    def _gradients(self, name: str) -> list[Tensor]:
        return [parameter.grad for parameter in self._trainable[name].module.parameters() if parameter.grad is not None]

    def _overflowed(self, hosts: dict[str, Any], norms: dict[str, float]) -> bool:
        """Whether a gradient of any network is too large for fp16; every rank hears the same."""
        if self._zero == 0:
            return not all(map(math.isfinite, norms.values()))
        for host in hosts.values():
            vars(host.optimizer).pop("has_overflow", None)
        return any([host.optimizer.has_overflow() for host in hosts.values()])

    @override
    def tensors(self) -> dict[str, Tensor]:
        flat = {}
        for name, each in self._trainable.items():
            optimizer = self._hosts[each.module].optimizer
            states = self._states(optimizer)
            for key, parameter in trained(each.module):
                flat[f"{name}/weights/{key}"] = self._full(parameter).cpu()
                if not states:  # not stepped yet
                    continue
                flat[f"{name}/step/{key}"] = states[0]["step"].clone()
                for moment in MOMENTS:
                    whole = self._zero == 0
                    value = optimizer.state[parameter][moment] if whole else safe_get_full_optimizer_state(parameter, moment)
                    flat[f"{name}/{moment}/{key}"] = value.cpu().reshape(flat[f"{name}/weights/{key}"].shape)
        return flat if self._scale is None else flat | {"loss_scale": self._scale.tensor()}

    @override
    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        self.steps = steps
        if self._scale is not None:
            self._scale.load(tensors["loss_scale"])
        for name, each in self._trainable.items():
            optimizer = self._hosts[each.module].optimizer
            stepped = any(key.startswith(f"{name}/step/") for key in tensors)
            if stepped and self._zero > 0:
                count = next(value for key, value in tensors.items() if key.startswith(f"{name}/step/"))
                for part in _parts(optimizer):
                    moments = {moment: torch.zeros_like(part) for moment in MOMENTS}
                    optimizer.optimizer.state[part] = {"step": count.clone(), **moments}
                self._states(optimizer)
            for key, parameter in trained(each.module):
                weights = tensors[f"{name}/weights/{key}"].to(self.device)
                with torch.no_grad(), deepspeed.zero.GatheredParameters([parameter], 0, enabled=self._zero == 3):
                    parameter.copy_(weights)
                if self._zero > 0:
                    safe_set_full_fp32_param(parameter, weights)
                if not stepped:
                    continue
                moments = {moment: tensors[f"{name}/{moment}/{key}"].to(self.device) for moment in MOMENTS}
                if self._zero == 0:
                    optimizer.state[parameter] = {"step": tensors[f"{name}/step/{key}"].clone(), **moments}
                    continue
                for moment, value in moments.items():
                    safe_set_full_optimizer_state(parameter, value, moment)

    def _states(self, optimizer: Any) -> list[dict[str, Tensor]]:
        """AdamW's state of each parameter or flat part; under ZeRO 1 and 2 also made known to DeepSpeed's accessors."""
        states = list((optimizer.optimizer if self._zero > 0 else optimizer).state.values())
        if states and self._zero in (1, 2):
            optimizer._hp_optimizer_states_linked = False  # it links all groups after the step of the first: too early
            optimizer._lazy_init_hp_params_optimizer_state()
        return states

    # ranks

    @override
    def spread(self, items: Sequence[Item], work: Callable[[Item], T], networks: bool = True) -> list[T]:
        mine = []
        for first in range(0, len(items), self.ranks):
            at = first + self.rank
            if at >= len(items) and not networks:
                break
            done = work(items[min(at, len(items) - 1)])  # under ZeRO 3 all ranks run a network equally often
            mine += [tree_map(_to_cpu, done)] * (at < len(items))
        parts = self._gather(mine)
        whole = [parts[index % self.ranks][index // self.ranks] for index in range(len(items))]
        return [tree_map(lambda each: each.to(self.device) if isinstance(each, Tensor) else each, each) for each in whole]

    @override
    def total(self, metrics: Metrics) -> Metrics:
        return sum(self._gather(metrics), Metrics())

    @override
    def agree(self, wish: bool) -> bool:
        return any(self._gather(wish))

    @override
    def release(self) -> None:
        for host in self._hosts.values():
            host.destroy()
        self._hosts.clear()

    def close(self) -> None:
        """Leave the group, all ranks together: a process that just ends may abort in one of gloo's threads."""
        dist.barrier()
        dist.destroy_process_group()

    def _gather(self, mine: T) -> list[T]:
        parts: list[Any] = [None] * self.ranks
        dist.all_gather_object(parts, mine)
        return parts


def _to_cpu(value: object) -> object:
    return value.cpu() if isinstance(value, Tensor) else value


def _parts(optimizer: Any) -> list[nn.Parameter]:
    """The flat fp32 parts of the weights that this rank's optimizer updates."""
    parts: list[nn.Parameter] = (
        getattr(optimizer, "single_partition_of_fp32_groups", None) or optimizer.fp32_partitioned_groups_flat
    )
    return parts
