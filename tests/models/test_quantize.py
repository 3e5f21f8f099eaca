"""Packed layers: what they compute, what they leave behind, and what is said where bitsandbytes is not installed."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from rlhf import artifact
from rlhf.config import Family, LoraConfig, ModelConfig, Quantize
from rlhf.fault import Fault
from rlhf.models.adapters import add_adapters, without_adapters
from rlhf.models.load import load_policy

IDS = torch.tensor([[1, 10, 20, 30, 2]])
ABOUT = {"kind": "policy", "result_signature": "1" * 16, "stage": "sft", "model": "m", "data": "d", "seed": 0}


def lora(how: Quantize) -> LoraConfig:
    return LoraConfig(dim=4, alpha=8, rslora=False, targets=None, quantize=how)


@pytest.mark.parametrize(("how", "tolerance"), [(Quantize.nf4, 0.3), (Quantize.int8, 0.06)])
@pytest.mark.parametrize("family", [Family.opt, Family.llama])
def test_a_packed_network_is_near_the_whole_one_and_leaves_a_whole_one(
    how: Quantize,
    tolerance: float,
    family: Family,
    tokenizer: PreTrainedTokenizerBase,
    model_config: Callable[..., ModelConfig],
    tmp_path: Path,
) -> None:
    pytest.importorskip("bitsandbytes", reason="QLoRA needs bitsandbytes")
    sizes = {"hidden_size": 128, "heads": 4, "ffn_size": 256}
    plain = load_policy(model_config(family, **sizes), tokenizer, None, seed=0).eval()
    policy = load_policy(model_config(family, **sizes), tokenizer, None, seed=0)
    add_adapters(policy, lora(how), "lora", seed=0)
    policy.eval().to("cpu")  # where it is placed is where it is packed
    with torch.no_grad():
        expected, packed = (each(input_ids=IDS).logits for each in (plain, policy))
    assert 0 < (packed - expected).norm() / expected.norm() < tolerance
    assert {parameter.dtype for parameter in policy.parameters() if not parameter.is_floating_point()} == {
        torch.uint8 if how is Quantize.nf4 else torch.int8
    }
    policy(input_ids=IDS).logits.square().mean().backward()
    learning = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learning)
    with torch.no_grad():
        for parameter in learning:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        moved = policy(input_ids=IDS).logits
        with without_adapters(policy):
            torch.testing.assert_close(policy(input_ids=IDS).logits, packed)

    saved = artifact.save(tmp_path / "policy", policy, policy.state_dict(), tokenizer, ABOUT)
    loaded = AutoModelForCausalLM.from_pretrained(saved.path).eval()
    with torch.no_grad():
        again = loaded(input_ids=IDS).logits
    assert (moved - packed).norm() > 0.1 * packed.norm()
    rounding = 1e-5 if how is Quantize.nf4 else 0.06  # int8 layers round their inputs, too
    assert (again - moved).norm() / moved.norm() < rounding


def test_without_the_package_the_fault_says_what_to_install(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    policy = load_policy(model_config(Family.llama), tokenizer, None, seed=0)
    with pytest.raises(Fault, match=r"lora\.quantize=nf4: needs bitsandbytes, .* pip install 'rlhf\[bitsandbytes\]'"):
        add_adapters(policy, lora(Quantize.nf4), "lora", seed=0)
