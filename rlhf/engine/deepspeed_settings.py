"""The configuration that DeepSpeed is handed for a network, from the run's."""

import math
from typing import Any

import torch
from deepspeed.ops.op_builder import AsyncIOBuilder
from torch import nn

from rlhf.config import Offload, Precision, Run
from rlhf.engine.loss_scale import START
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.fault import Fault


class Settings:
    """What DeepSpeed hears of a run."""

    def __init__(self, run: Run) -> None:
        self._stage, self._offload, self._precision, self._knobs = run.zero.value, run.offload, run.precision, run.deepspeed
        if run.offload is Offload.nvme and not AsyncIOBuilder().is_compatible(verbose=False):
            raise Fault(
                "offload=nvme: DeepSpeed cannot build async_io here; install libaio with its headers "
                "(Debian: apt-get install libaio-dev), or use offload=all"
            )

    def trained(self, module: nn.Module, device: torch.device, spec: OptimizerSpec) -> dict[str, Any]:
        """For a network that is trained."""
        config = self._config(module, device, spec.max_grad_norm)
        if self._offload is not Offload.none:
            config["zero_optimization"]["offload_optimizer"] = self._place(device)
        return config

    def frozen(self, module: nn.Module, device: torch.device, where: str) -> dict[str, Any]:
        """For a network that is only asked, its weights kept ``where`` (`auto`, or `cpu`)."""
        config = self._config(module, device, math.inf)
        if where == "cpu":
            config["zero_optimization"]["offload_param"] = {"device": "cpu", "pin_memory": device.type == "cuda"}
        return config

    def _place(self, device: torch.device) -> dict[str, Any]:
        if self._offload is Offload.nvme:
            return {"device": "nvme", "nvme_path": self._knobs.nvme_path, "pin_memory": device.type == "cuda"}
        return {"device": "cpu", "pin_memory": device.type == "cuda"}

    def _config(self, module: nn.Module, device: torch.device, max_grad_norm: float) -> dict[str, Any]:
        knobs, size = self._knobs, sum(parameter.numel() for parameter in module.parameters())
        zero: dict[str, Any] = {
            "stage": self._stage,
            "reduce_bucket_size": min(knobs.reduce_bucket_size, size),
            "allgather_bucket_size": min(knobs.allgather_bucket_size, size),
            "stage3_prefetch_bucket_size": knobs.prefetch_bucket_size,
            "stage3_param_persistence_threshold": knobs.persistence_threshold,
            "stage3_max_live_parameters": knobs.max_live_parameters,
            "overlap_comm": knobs.overlap_comm,
        }
        if self._offload in (Offload.all, Offload.nvme):
            zero["offload_param"] = self._place(device)
        low = self._stage > 0  # ZeRO 0 computes in the low format as plain torch does
        return {
            "train_micro_batch_size_per_gpu": 1,  # only DeepSpeed's own counters read it
            "gradient_accumulation_steps": 1,  # the loop says which backward is the last before a step
            "zero_optimization": zero,
            "bf16": {"enabled": low and self._precision is Precision.bf16},
            "fp16": {"enabled": low and self._precision is Precision.fp16, "loss_scale": START},  # then set at each step
            # the engine clips under ZeRO 0, where DeepSpeed would sum the squares in fp32 (rlhf/engine/norm.py)
            "gradient_clipping": max_grad_norm if self._stage > 0 and math.isfinite(max_grad_norm) else 0.0,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # torch's AdamW: nothing is compiled, and the numbers stay the same
            "steps_per_print": 2**31,
        }
