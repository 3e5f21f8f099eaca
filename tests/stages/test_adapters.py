"""Stages with adapters: only the adapters learn, and what they leave is a whole model."""

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
        assert torch.equal(ppo._networks.reference_logprobs(batch), expected)
        assert (now - expected).abs().max() > 1e-3  # the policy itself has moved, and its adapters are on again
    assert ppo._networks._copy is None
    assert learn(ppo, [batch], micro_batch_size=4)[0]["grad_norm/policy"] > 0
