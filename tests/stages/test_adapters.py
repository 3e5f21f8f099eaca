"""Stages with adapters: only the adapters learn, and what they leave is a whole model."""

import json
from collections.abc import Callable
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf import chain
from rlhf.config import Run
from rlhf.stages.interface import Stage

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
