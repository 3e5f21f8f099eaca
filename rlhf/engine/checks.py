"""Faults between engine, number format, adapters and places: what goes with what (see docs/engines.md). Torch-free."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from rlhf.config import Device, Offload, Optimizer, Precision, Quantize, Run, Zero
from rlhf.lineage import JUDGED, ONLINE, chain

NO_BITSANDBYTES = "needs bitsandbytes, which is not installed; pip install 'rlhf[bitsandbytes]'"


def faults(run: Run) -> list[str]:
    """What no engine can do of ``run``, one line each."""
    return [*_sharding(run), *_precision(run), *_adapters(run), *_frozen(run), *_optimizers(run), *_places(run)]


def _sharding(run: Run) -> Iterator[str]:
    one_device = run.zero is Zero["none"]
    if run.offload is Offload.optimizer and (one_device or run.zero.value < 1):
        yield f"offload=optimizer: needs zero=1, 2 or 3, and zero is {run.zero.name}"
    if run.offload is Offload.all and (one_device or run.zero.value < 3):
        yield f"offload=all: needs zero=3, and zero is {run.zero.name}; offload=optimizer goes with zero=1 and 2"
    if run.offload is Offload.nvme:
        if one_device or run.zero.value < 3:
            yield f"offload=nvme: needs zero=3, and zero is {run.zero.name}; offload=optimizer goes with zero=1 and 2"
        if run.deepspeed.nvme_path is None:
            yield "offload=nvme: needs deepspeed.nvme_path, a folder on a local NVMe disk; or use offload=all"
        elif not Path(run.deepspeed.nvme_path).is_dir():
            yield f"deepspeed.nvme_path={run.deepspeed.nvme_path}: there is no such folder; make it, or name another"
    if run.ranks > 1 and one_device:
        yield f"ranks={run.ranks}: zero=none is one device; use zero=0 (or 1, 2, 3) for several"
    if run.deepspeed.nvme_path is not None and run.offload is not Offload.nvme:
        yield f"deepspeed.nvme_path={run.deepspeed.nvme_path}: has no effect without offload=nvme; leave it out"


def _precision(run: Run) -> Iterator[str]:
    if run.precision is Precision.bf16 and run.device is Device.cpu:
        yield "precision=bf16: slower and coarser than fp32 on a CPU; use precision=fp32"
    if run.precision is Precision.fp16 and run.device is Device.cpu:
        yield "precision=fp16: needs a GPU; use precision=fp32 with device=cpu"
    if run.precision is Precision.fp32 and not run.fp32_loss:
        yield "fp32_loss=false: has no effect with precision=fp32; leave it out"


def _adapters(run: Run) -> Iterator[str]:
    for key, lora in (("lora", run.lora), ("reward_lora", run.reward_lora)):
        if lora.targets is not None and not lora.targets:
            yield f"{key}.targets=[]: names no layer; use null for all, or {key}=none"
        if lora.quantize is not Quantize.none and lora.dim == 0:
            yield f"{key}.quantize={lora.quantize.name}: packed weights cannot be trained; add adapters as {key}=dim64"
        if lora.quantize is not Quantize.none and run.zero is not Zero["none"]:
            yield f"{key}.quantize={lora.quantize.name}: needs zero=none, and zero is {run.zero.name}"
        elif lora.quantize is not Quantize.none and not _has_bitsandbytes():
            yield f"{key}.quantize={lora.quantize.name}: {NO_BITSANDBYTES}"


def _frozen(run: Run) -> Iterator[str]:
    for key, own, lora in (("model", "lora", run.lora), ("reward_model", "reward_lora", run.reward_lora)):
        model = getattr(run, key)
        if model.arch is not None and model.freeze_layers > model.arch.layers:
            yield f"{key}.freeze_layers={model.freeze_layers}: {key}={model.name} has {model.arch.layers} layers; freeze fewer"
        if lora.dim > 0 and (model.freeze_layers or model.freeze_embeddings):
            what = f"freeze_layers={model.freeze_layers}" if model.freeze_layers else "freeze_embeddings=true"
            yield f"{key}.{what}: {own} freezes all weights and trains adapters; leave it out, or use {own}=none"


def _has_bitsandbytes() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None


def _optimizers(run: Run) -> Iterator[str]:
    for name in chain(run, run.stage):
        if getattr(run, name).optimizer is Optimizer.adamw_8bit and run.zero is not Zero["none"]:
            yield f"{name}.optimizer=adamw_8bit: needs zero=none, and zero is {run.zero.name}; ZeRO shares those of adamw"
        elif getattr(run, name).optimizer is Optimizer.adamw_8bit and not _has_bitsandbytes():
            yield f"{name}.optimizer=adamw_8bit: {NO_BITSANDBYTES}"


def _places(run: Run) -> Iterator[str]:
    if run.stage not in (*ONLINE, *JUDGED):
        return
    config = getattr(run, run.stage)
    for name in ("reference_device", "reward_device"):
        where, key = getattr(config, name, "auto"), f"{run.stage}.{name}"
        if where not in ("auto", "cpu") and not re.fullmatch(r"cuda:\d+", where):
            yield f"{key}={where}: must be auto, cpu, or a GPU by its number, as cuda:1"
        elif where.startswith("cuda") and run.device is Device.cpu:
            yield f"{key}={where}: there is no GPU with device=cpu; use auto"
        elif where.startswith("cuda") and (run.ranks > 1 or run.zero is Zero["3"]):
            yield f"{key}={where}: needs ranks=1 and zero below 3, or each rank would have a copy there; use auto or cpu"
    if run.lora.dim > 0 and config.reference_device != "auto":
        key = f"{run.stage}.reference_device"
        yield f"{key}={config.reference_device}: with adapters the policy is its own reference; leave it out"
