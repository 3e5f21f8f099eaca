"""Plain torch on one device: no ranks, no sharding."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlhf.config import Device, Precision
from rlhf.engine.optimizer import OptimizerSpec, adamw
from rlhf.metrics import Mean, Metrics


@dataclass(frozen=True)
class Trainable:
    """A module that a stage trains, and how."""

    module: nn.Module
    optimizer: OptimizerSpec


class TorchEngine:
    """Owns the device, the number format and the optimizers of a run."""

    def __init__(self, device: Device, precision: Precision, deterministic: bool) -> None:
        cuda = torch.cuda.is_available() if device is Device.auto else device is Device.cuda
        self.device = torch.device("cuda" if cuda else "cpu")
        if not cuda:
            os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers imports DeepSpeed on saving, which else warns
        self._bf16 = precision is Precision.bf16
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        self._trainable: dict[str, Trainable] = {}
        self._optimizers: dict[str, torch.optim.AdamW] = {}
        self._steps = 0

    def place(self, module: nn.Module) -> None:
        """Move a module's weights to the device."""
        module.to(self.device)

    def prepare(self, trainable: dict[str, Trainable]) -> None:
        """Make an optimizer for each module that is trained. The modules are on the device already."""
        self._trainable = trainable
        self._optimizers = {name: adamw(each.module, each.optimizer) for name, each in trainable.items()}

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Forward passes inside run in the run's precision."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            yield

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` to those already there."""
        loss.backward()

    def step(self) -> Metrics:
        """Clip, step and clear every module that has gradients; count one optimizer step.

        Returns:
            Gradient norm before clipping and learning rate of each module that was stepped.
        """
        metrics = {}
        for name, each in self._trainable.items():
            parameters = [parameter for parameter in each.module.parameters() if parameter.grad is not None]
            if not parameters:  # a module the loss left alone, such as the policy in the critic's warm-up
                continue
            norm = nn.utils.clip_grad_norm_(parameters, each.optimizer.max_grad_norm).item()
            rate = each.optimizer.learning_rate_at(self._steps)
            for group in self._optimizers[name].param_groups:
                group["lr"] = rate
            self._optimizers[name].step()
            self._optimizers[name].zero_grad(set_to_none=True)
            metrics[f"grad_norm/{name}"] = Mean(norm, 1)
            metrics[f"learning_rate/{name}"] = Mean(rate, 1)
        self._steps += 1
        return Metrics(metrics)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer moments, by a flat name."""
        flat = {}
        for name, each in self._trainable.items():
            for key, parameter in each.module.named_parameters():
                flat[f"{name}/weights/{key}"] = parameter.detach()
                for moment, value in self._optimizers[name].state.get(parameter, {}).items():
                    flat[f"{name}/{moment}/{key}"] = value
        return flat

    def load(self, tensors: dict[str, Tensor], steps: int) -> None:
        """Put back what ``tensors`` returned after ``steps`` optimizer steps.

        Raises:
            KeyError: a weight is missing.
        """
        self._steps = steps
        for name, each in self._trainable.items():
            state = self._optimizers[name].state
            for key, parameter in each.module.named_parameters():
                with torch.no_grad():
                    parameter.copy_(tensors[f"{name}/weights/{key}"])
                moments = {moment: tensors.get(f"{name}/{moment}/{key}") for moment in ("step", "exp_avg", "exp_avg_sq")}
                if moments["step"] is not None:
                    state[parameter] = {
                        moment: value.clone() if moment == "step" else value.to(self.device, copy=True)
                        for moment, value in moments.items()
                        if value is not None
                    }

    @property
    def steps(self) -> int:
        """Optimizer steps taken so far."""
        return self._steps

    def peak_memory_gib(self) -> float | None:
        """Largest memory of the device (CPU: resident memory of the process) since the last ``reset_peak_memory``."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated() / 2**30
        return _resident_peak_gib()

    def reset_peak_memory(self) -> None:
        """Start measuring the peak anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")  # proc(5): resets the peak resident set size
        except OSError:
            pass  # not Linux, or not allowed: the peak is the process's


def _resident_peak_gib() -> float | None:
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 2**20
    except OSError:
        pass
    return None
