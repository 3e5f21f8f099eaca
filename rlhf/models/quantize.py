"""Frozen linear layers in 4 or 8 bits (QLoRA, Dettmers et al. 2023): loaded whole, packed when they come to their device."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from rlhf.config import Quantize
from rlhf.fault import Fault
from rlhf.low_bit import bitsandbytes


def quantize(network: nn.Module, how: Quantize, key: str, keep: Sequence[str]) -> None:
    """Replace the linear layers of ``network``, but for those named in ``keep``, by layers of few bits.

    Raises:
        Fault: bitsandbytes is not installed, or there is no such layer; the message names ``key``, the setting's group.
    """
    if how is Quantize.none:
        return
    layers = bitsandbytes(f"{key}.quantize={how.name}").nn
    found = [(name, each) for name, each in network.named_modules() if isinstance(each, nn.Linear) and name not in keep]
    if not found:
        raise Fault(f"{key}.quantize={how.name}: this kind of network has no linear layers that can be packed; use none")
    for name, layer in found:
        sizes = {"input_features": layer.in_features, "output_features": layer.out_features, "bias": layer.bias is not None}
        packed: Any
        if how is Quantize.nf4:
            packed = layers.Linear4bit(**sizes, quant_type="nf4", device="meta")
            packed.weight = layers.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4", module=packed)
        else:
            packed = layers.Linear8bitLt(**sizes, has_fp16_weights=False, device="meta")
            packed.weight = layers.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
        packed.bias = layer.bias
        packed.support_avx512bf16_for_cpu = False  # a layout for inference alone, which some CPUs get: it has no gradients
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, packed)


def whole(network: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights``, the state of ``network``, with packed ones as the numbers they stand for."""
    plain = dict(weights)
    for name, layer in _packed(network):
        for key in [each for each in plain if each.startswith((f"{name}.weight", f"{name}.SCB"))]:
            del plain[key]
        plain[f"{name}.weight"] = _numbers(layer)
    return plain


def _packed(network: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, each) for name, each in network.named_modules() if type(each).__name__ in ("Linear4bit", "Linear8bitLt"))


def _numbers(layer: Any) -> Tensor:
    functional = bitsandbytes("quantize").functional
    if type(layer).__name__ == "Linear4bit":
        numbers: Tensor = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    else:
        scales = layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB
        numbers = functional.int8_vectorwise_dequant(layer.weight.data, scales)
    return numbers.float()
