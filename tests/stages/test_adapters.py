"""Stages that train a part: adapters, or all but frozen layers; what they leave is a whole model."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf import chain
from rlhf.config import Run
from rlhf.models.forward import token_logprobs
from rlhf.models.load import load_policy
from rlhf.stages.interface import Stage
from tests.stages.small import learn, record

LORA = ("lora=dim8", "reward_lora=dim8")


def test_the_whole_chain_with_adapters(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=ppo", *LORA, "ppo.updates=2"))
    assert result.artifact is not None, result.message
    policy = Path(result.artifact)
    assert json.loads((policy / "adapter/adapter_config.json").read_text())["r"] == 8
    AutoModelForCausalLM.from_pretrained(policy)
    (reward_model,) = policy.parents[1].glob("rm-*/artifact")
    AutoModelForSequenceClassification.from_pretrained(reward_model)


def test_only_adapters_and_heads_are_trained_and_saved(build: Callable[..., Stage]) -> None:
    for stage in ("sft", "rm", "ppo"):
        built = build(stage, *LORA)
        names = [name.split("/", 2)[2] for name in built._setting.engine.tensors() if "/weights/" in name]
        assert names and all(".lora_" in name or name == "score.weight" for name in names)


def test_the_policy_without_its_adapters_is_the_reference(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", *LORA, "ppo.critic_warmup=0", "ppo.learning_rate=1e-2")
    (batch,) = record(ppo, 1)
    learn(ppo, [batch] * 2, micro_batch_size=4)
    policy, tokenizer = ppo.export()
    sft = load_policy(ppo._run.model, tokenizer, ppo._setting.parents["sft"], seed=0).eval()
    inputs = (batch.ids, batch.mask, batch.targets)
    with torch.no_grad():
        expected, now = (token_logprobs(each, *inputs)[0] for each in (sft, policy))
        assert torch.equal(ppo._policies.reference_logprobs(batch), expected)
        assert (now - expected).abs().max() > 1e-3  # the policy itself has moved, and its adapters are on again
    assert ppo._policies._copy is None
    assert learn(ppo, [batch], micro_batch_size=4)[0]["grad_norm/policy"] > 0


def test_frozen_layers_keep_their_bytes_and_the_others_learn(build: Callable[..., Stage]) -> None:
    frozen = [f"{slot}.{what}" for slot in ("model", "reward_model") for what in ("freeze_layers=1", "freeze_embeddings=true")]
    for stage in ("sft", "rm", "ppo"):
        built = build(stage, *frozen, "ppo.critic_warmup=0", *(f"{name}.warmup_steps=0" for name in ("sft", "rm")))
        before = {
            f"{slot}.{name}": value.clone()
            for slot, each in built.trainable().items()
            for name, value in each.module.state_dict().items()
        }
        learn(built, record(built, 2), micro_batch_size=4)
        for slot, each in built.trainable().items():
            for name, value in each.module.state_dict().items():
                kept = ".layers.0." in name or "embed_tokens" in name or name == "lm_head.weight"  # tied
                assert torch.equal(value, before[f"{slot}.{name}"]) == kept, f"{stage}: {slot}.{name}"
