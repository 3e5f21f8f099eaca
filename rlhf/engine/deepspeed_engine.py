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

from rlhf.config import Offload, Run
from rlhf.engine.base import Engine, Item, N, T, Trainable, trained
from rlhf.engine.optimizer import OptimizerSpec, adamw
from rlhf.fault import Fault
from rlhf.metrics import Mean, Metrics

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
        self._zero, self._offload, self._knobs = int(run.zero.value), run.offload, run.deepspeed
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
        deepspeed.init_distributed(auto_mpi_discovery=False)
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self._low = self.bf16 and self._zero > 0
        self._trainable: dict[str, Trainable] = {}
        self._hosts: dict[nn.Module, Any] = {}
        self._waiting: set[str] = set()

    # networks

    @override
    def place(self, module: nn.Module) -> None:
        if self._zero < 3:  # else DeepSpeed moves each rank's part, and the whole may not fit
            module.to(self.device)

    @override
    def freeze(self, module: nn.Module) -> None:
        module.eval().requires_grad_(False)
        if self._zero == 3:
            self._hosts[module], *_ = deepspeed.initialize(model=_Host(module), config=self._config(module, None))
        else:
            module.to(self.device, torch.bfloat16 if self._low else None)

    @override
    def prepare(self, trainable: dict[str, Trainable]) -> None:
        self._trainable = trainable
        for each in trainable.values():
            host, optimizer = _Host(each.module), adamw(each.module, each.optimizer)
            self._hosts[each.module], *_ = deepspeed.initialize(
                model=host, optimizer=optimizer, config=self._config(each.module, each.optimizer)
            )

    def _config(self, module: nn.Module, spec: OptimizerSpec | None) -> dict[str, Any]:
        knobs, size = self._knobs, sum(parameter.numel() for parameter in module.parameters())
        zero: dict[str, Any] = {
            "stage": self._zero,
            "reduce_bucket_size": min(knobs.reduce_bucket_size, size),
            "allgather_bucket_size": min(knobs.allgather_bucket_size, size),
            "stage3_prefetch_bucket_size": knobs.prefetch_bucket_size,
            "stage3_param_persistence_threshold": knobs.persistence_threshold,
            "stage3_max_live_parameters": knobs.max_live_parameters,
            "overlap_comm": knobs.overlap_comm,
        }
        where = "nvme" if self._offload is Offload.nvme else "cpu"
        pinned = {"device": where, "pin_memory": self.device.type == "cuda"}
        if self._offload is not Offload.none and spec is not None:
            zero["offload_optimizer"] = pinned
        if self._offload in (Offload.all, Offload.nvme):
            zero["offload_param"] = pinned
        limit = spec.max_grad_norm if spec is not None else math.inf
        return {
            "train_micro_batch_size_per_gpu": 1,  # only DeepSpeed's own counters read it
            "gradient_accumulation_steps": 1,  # the loop says which backward is the last before a step
            "zero_optimization": zero,
            "bf16": {"enabled": self._low},
            "gradient_clipping": limit if math.isfinite(limit) else 0.0,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # torch's AdamW: nothing is compiled, and the numbers stay the same
            "steps_per_print": 2**31,
        }

    @override
    def forward(self, function: Callable[..., T], module: nn.Module, *arguments: object) -> T:
        with self.computing():
            host = self._hosts.get(module)
            result: T = function(module, *arguments) if host is None else host(function, *arguments)
            return result

    @override
    @contextmanager
    def computing(self) -> Iterator[None]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16 and not self._low):
            yield

    @override
    @contextmanager
    def whole(self, module: N) -> Iterator[N]:
        host = self._hosts.get(module)
        if host is None or self._zero < 3:
            with torch.no_grad(), self.computing():
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
            host.backward(loss * self.ranks)
            self._waiting.add(name)

    @override
    def step(self) -> Metrics:
        metrics = {}
        for name, each in self._trainable.items():
            if name not in self._waiting:  # a module the loss left alone, such as the policy in the critic's warm-up
                continue
            host = self._hosts[each.module]
            rate = each.optimizer.learning_rate_at(self.steps)
            for group in host.optimizer.param_groups:
                group["lr"] = rate
            gradients = [parameter.grad for parameter in each.module.parameters() if parameter.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients).item() if self._zero == 0 else None
            host.step()
            metrics[f"grad_norm/{name}"] = Mean(float(host.get_global_grad_norm() if norm is None else norm), 1)
            metrics[f"learning_rate/{name}"] = Mean(rate, 1)
        self._waiting.clear()
        self.steps += 1
        return Metrics(metrics)

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
        return flat

    @override
    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        self.steps = steps
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
    def spread(self, items: Sequence[Item], work: Callable[[Item], T]) -> list[T]:
        mine = []
        for first in range(0, len(items), self.ranks):
            at = first + self.rank
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
