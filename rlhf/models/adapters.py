"""Low-rank adapters (Hu et al. 2021) through peft, inside a network that stays a plain transformers model.

    W' = W + scale * B A        A [r, in] drawn at random, B [out, r] zero, scale = alpha / r, or alpha / sqrt(r) (rsLoRA,
                                Kalajdzievski 2023); W is frozen

An artifact holds the merged weights, which anything can load, and beside them, in ``adapter/``, what was learnt as a peft
adapter to the network the stage started from.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import peft
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf.config import LoraConfig
from rlhf.fault import Fault
from rlhf.models.quantize import quantize, whole

NAME = "default"
ADAPTER = "adapter"


def add_adapters(network: PreTrainedModel, lora: LoraConfig, key: str, seed: int, keep: Sequence[str] = ()) -> None:
    """Freeze ``network`` but for the submodules named in ``keep``, and put an adapter on each target; nothing for dim 0.

    Raises:
        Fault: a target is not in the network or shares its weights with the embeddings, or there is no bitsandbytes. The
            message names ``key``, the setting's group.
    """
    if lora.dim == 0:
        return
    whole_layers = [*keep, *_heads(network)]
    quantize(network, lora.quantize, key, whole_layers)
    targets = "all-linear" if lora.targets is None else list(lora.targets)
    if both := set(keep) & set(lora.targets or ()):
        raise Fault(f"{key}.targets={targets}: {', '.join(both)} is trained whole, without an adapter; leave it out")
    if network.config.tie_word_embeddings and (tied := set(_heads(network)) & set(lora.targets or ())):
        raise Fault(f"{key}.targets={targets}: {', '.join(tied)} shares its weights with the embeddings; leave it out")
    settings = peft.LoraConfig(
        r=lora.dim,
        lora_alpha=cast(int, lora.alpha),
        target_modules=targets,
        use_rslora=lora.rslora,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in network.modules()),
    )
    if lora.targets is None:
        settings.exclude_modules = whole_layers
    torch.manual_seed(seed)
    try:
        peft.inject_adapter_in_model(settings, network, NAME)
    except ValueError as error:
        layers = {name.rpartition(".")[2] for name, module in network.named_modules() if isinstance(module, nn.Linear | Conv1D)}
        layers -= {*keep, *(_heads(network) if network.config.tie_word_embeddings else ())}
        raise Fault(
            f"{key}.targets={targets}: {network.config.model_type} has no such layers; choose from {', '.join(sorted(layers))}"
        ) from error
    for name in keep:
        network.get_submodule(name).requires_grad_(True)
    if keep:  # said to peft only now, or it would put copies of its own in their place; it does when it loads the adapter
        settings.modules_to_save = list(keep)
        settings.target_modules = sorted(set(settings.target_modules or ()) - set(keep))
        settings.exclude_modules = [name for name in settings.exclude_modules or () if name not in keep] or None


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """Inside, ``network`` computes what it did before it was given adapters; for passes without gradients."""
    layers = [layer for _, layer in _adapted(network)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merged(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` as those of the network without adapters that computes the same.

    Args:
        weights: the whole state of ``network``, by name.
    """
    plain = whole(network, weights)
    for name, layer in _adapted(network):
        base = plain.pop(f"{name}.base_layer.weight")
        down, up = (plain.pop(f"{name}.lora_{part}.{NAME}.weight") for part in "AB")
        delta = layer.scaling[NAME] * (up @ down)
        plain[f"{name}.weight"] = base + (delta.T if getattr(layer, "fan_in_fan_out", False) else delta).to(base)
        if f"{name}.base_layer.bias" in plain:
            plain[f"{name}.bias"] = plain.pop(f"{name}.base_layer.bias")
    return plain


def unadapted(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` as those of the network as it was before it was given adapters; arguments as those of ``merged``."""
    silent = {name: torch.zeros_like(each) if f".lora_B.{NAME}." in name else each for name, each in weights.items()}
    return merged(network, silent)


def save_adapter(folder: Path, network: nn.Module, weights: dict[str, Tensor], base: str | None) -> None:
    """Write the adapter of ``network``, if it has one, to ``folder/adapter`` as peft does; ``base`` is what it started from.

    Submodules that are trained whole are part of it, so that peft makes the same network of it and its base.
    """
    layers = list(_adapted(network))
    if not layers:
        return
    settings = cast(Any, network).peft_config[NAME]  # peft puts it there
    settings.base_model_name_or_path, settings.inference_mode = base, True
    settings.save_pretrained(folder / ADAPTER)
    learnt = {
        f"base_model.model.{name}.lora_{part}.weight": weights[f"{name}.lora_{part}.{NAME}.weight"].contiguous()
        for name, _ in layers
        for part in "AB"
    }
    for name in settings.modules_to_save or ():
        learnt |= {f"base_model.model.{key}": weights[key].contiguous() for key in weights if key.startswith(f"{name}.")}
    save_file(learnt, folder / ADAPTER / "adapter_model.safetensors", {"format": "pt"})


def _adapted(network: nn.Module) -> list[tuple[str, LoraLayer]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, LoraLayer)]


def _heads(network: PreTrainedModel) -> list[str]:
    """Output layers, by name."""
    head = network.get_output_embeddings()
    return [name for name, module in network.named_modules() if module is head and head is not None]
