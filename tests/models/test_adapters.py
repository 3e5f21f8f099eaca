"""Adapters: by hand, merged, and as peft reads them."""

import json
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from rlhf import artifact
from rlhf.config import Family, LoraConfig, ModelConfig, Quantize
from rlhf.fault import Fault
from rlhf.models.adapters import add_adapters, merged
from rlhf.models.load import load_policy, load_scorer

IDS = torch.tensor([[1, 10, 20, 30, 2]])
ABOUT = {"kind": "policy", "result_signature": "1" * 16, "stage": "sft", "model": "m", "data": "d", "seed": 0}


def lora(dim: int = 4, alpha: int = 8, rslora: bool = False, targets: list[str] | None = None) -> LoraConfig:
    return LoraConfig(dim=dim, alpha=alpha, rslora=rslora, targets=targets, quantize=Quantize.none)


def trained(network: PreTrainedModel) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def disturb(network: PreTrainedModel) -> None:
    """As if something had been learnt."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)


class OneLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)


def test_merging_by_hand() -> None:
    # B A = [[1], [2]] [[3, 4]] = [[3, 4], [6, 8]], times alpha / r = 2 / 1, on a weight of ones
    network = OneLayer()
    peft.inject_adapter_in_model(peft.LoraConfig(r=1, lora_alpha=2, target_modules=["layer"]), network)
    weights = {
        "layer.base_layer.weight": torch.ones(2, 2),
        "layer.base_layer.bias": torch.tensor([5.0, 6.0]),
        "layer.lora_A.default.weight": torch.tensor([[3.0, 4.0]]),
        "layer.lora_B.default.weight": torch.tensor([[1.0], [2.0]]),
    }
    plain = merged(network, weights)
    assert {name: value.tolist() for name, value in plain.items()} == {
        "layer.weight": [[7.0, 9.0], [13.0, 17.0]],
        "layer.bias": [5.0, 6.0],
    }


@pytest.mark.parametrize("family", Family)
def test_an_adapter_starts_as_nothing_and_merges_to_the_same_network(
    family: Family, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig], tmp_path: Path
) -> None:
    plain = load_policy(model_config(family), tokenizer, None, seed=0).eval()
    network = load_policy(model_config(family), tokenizer, None, seed=0).eval()
    add_adapters(network, lora(), "lora", seed=1)
    assert torch.equal(network(IDS).logits, plain(IDS).logits)  # B is zero
    assert trained(network) and all(".lora_" in name for name in trained(network))
    assert not any("lm_head" in name or "embed_out" in name for name in trained(network))

    disturb(network)
    assert not torch.allclose(network(IDS).logits, plain(IDS).logits, atol=1e-3)
    plain.save_pretrained(tmp_path / "base")
    artifact.save(tmp_path / "artifact", network, network.state_dict(), tokenizer, ABOUT)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "artifact").eval()
    torch.testing.assert_close(again(IDS).logits, network(IDS).logits, rtol=1e-4, atol=1e-5)
    settings = peft.LoraConfig.from_pretrained(tmp_path / "artifact/adapter")
    assert settings.fan_in_fan_out is (family is Family.gpt2)  # whose layers are transposed
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    adapted = PeftModel.from_pretrained(base, tmp_path / "artifact/adapter").eval()
    torch.testing.assert_close(adapted(IDS).logits, network(IDS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "layers"),
    [
        (Family.llama, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (Family.qwen3, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        (Family.opt, {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}),
        (Family.gpt_neox, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
        (Family.gpt2, {"c_attn", "c_proj", "c_fc"}),
        (Family.bloom, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    ],
)
@pytest.mark.parametrize("kind", ["policy", "scorer"])
def test_without_targets_every_layer_but_the_output_has_an_adapter(
    family: Family, layers: set[str], kind: str, tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    if kind == "policy":
        network, keep = load_policy(model_config(family), tokenizer, None, seed=0), []
    else:
        network, keep = load_scorer(model_config(family), tokenizer, None, seed=0, fresh_head=True), ["score"]
    add_adapters(network, lora(), "lora", seed=0, keep=keep)
    adapted = {name.partition(".lora_")[0].rpartition(".")[2] for name in trained(network) if ".lora_" in name}
    assert adapted == layers


@pytest.mark.parametrize("family", [Family.llama, Family.opt, Family.gpt2])
@pytest.mark.parametrize("targets", ["all", "one"])
def test_the_adapter_of_a_scorer_gives_its_scores_on_a_base_with_another_head(
    family: Family,
    targets: str,
    tokenizer: PreTrainedTokenizerBase,
    model_config: Callable[..., ModelConfig],
    tmp_path: Path,
) -> None:
    """The trained head was not in the adapter, so peft scored with whatever head the base was given."""
    names = {Family.llama: "q_proj", Family.opt: "fc1", Family.gpt2: "c_attn"}
    named = [names[family]] if targets == "one" else None
    load_policy(model_config(family), tokenizer, None, seed=0).save_pretrained(tmp_path / "base")  # it has no head at all
    scorer = load_scorer(model_config(family, path=str(tmp_path / "base")), tokenizer, None, seed=0, fresh_head=True).eval()
    add_adapters(scorer, lora(targets=named), "reward_lora", seed=1, keep=["score"])
    disturb(scorer)
    artifact.save(tmp_path / "artifact", scorer, scorer.state_dict(), tokenizer, ABOUT)

    settings = json.loads((tmp_path / "artifact/adapter/adapter_config.json").read_text())
    assert settings["modules_to_save"] == ["score"] and settings["exclude_modules"] is None
    assert "score" not in settings["target_modules"] and (named is None or settings["target_modules"] == named)
    torch.manual_seed(99)  # the head that transformers draws for it
    base = AutoModelForSequenceClassification.from_pretrained(
        settings["base_model_name_or_path"], num_labels=1, pad_token_id=scorer.config.pad_token_id
    )
    adapted = PeftModel.from_pretrained(base, tmp_path / "artifact/adapter").eval()
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "artifact").eval()
    torch.testing.assert_close(adapted(IDS).logits, again(IDS).logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adapted(IDS).logits, scorer(IDS).logits, rtol=1e-4, atol=1e-5)


def test_a_head_that_is_trained_whole_gets_no_adapter_beside(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    scorer = load_scorer(model_config(Family.llama), tokenizer, None, seed=0, fresh_head=True)
    with pytest.raises(Fault, match=r"reward_lora\.targets=\['score'\]: score is trained whole, .* leave it out"):
        add_adapters(scorer, lora(targets=["score"]), "reward_lora", seed=0, keep=["score"])


def test_the_head_of_a_scorer_is_trained_whole(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    scorer = load_scorer(model_config(Family.llama), tokenizer, None, seed=0, fresh_head=True)
    add_adapters(scorer, lora(targets=["q_proj"]), "reward_lora", seed=0, keep=["score"])
    assert {name for name in trained(scorer) if ".lora_" not in name} == {"score.weight"}
    assert all("q_proj" in name for name in trained(scorer) - {"score.weight"})


def test_rank_stabilised_adapters_scale_with_the_root_of_their_rank(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    for rslora, scale in ((False, 8 / 4), (True, 8 / 2)):
        network = load_policy(model_config(Family.opt), tokenizer, None, seed=0)
        add_adapters(network, lora(rslora=rslora), "lora", seed=0)
        layer = network.get_submodule("model.decoder.layers.0.fc1")
        assert layer.scaling["default"] == scale


def test_dimension_zero_leaves_the_network_alone(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    network = load_policy(model_config(Family.opt), tokenizer, None, seed=0)
    names = set(network.state_dict())
    add_adapters(network, lora(dim=0), "lora", seed=0)
    assert set(network.state_dict()) == names and trained(network) == dict(network.named_parameters()).keys()


def test_a_target_that_is_not_there_is_a_fault(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    network = load_policy(model_config(Family.gpt_neox), tokenizer, None, seed=0)
    with pytest.raises(Fault, match=r"lora\.targets=\['q_proj'\]: gpt_neox has no such layers; choose from .*query_key_value"):
        add_adapters(network, lora(targets=["q_proj"]), "lora", seed=0)


def test_an_output_layer_that_is_the_embedding_too_gets_no_adapter(
    tokenizer: PreTrainedTokenizerBase, model_config: Callable[..., ModelConfig]
) -> None:
    tied, untied = (load_policy(model_config(family), tokenizer, None, seed=0) for family in (Family.opt, Family.gpt_neox))
    with pytest.raises(Fault, match=r"lora\.targets=\['lm_head'\]: lm_head shares its weights with the embeddings"):
        add_adapters(tied, lora(targets=["lm_head"]), "lora", seed=0)  # merged, it would be lost on loading
    with pytest.raises(Fault) as told:
        add_adapters(load_policy(model_config(Family.opt), tokenizer, None, seed=0), lora(targets=["foo"]), "lora", seed=0)
    assert "q_proj" in str(told.value) and "lm_head" not in str(told.value)
    add_adapters(untied, lora(targets=["lm_head"]), "lora", seed=0)
    assert {name.partition(".lora_")[0] for name in trained(untied)} == {"lm_head"}
