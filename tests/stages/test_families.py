"""The families whose engines are not compared one by one still go through every stage."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf import chain
from rlhf.config import Run
from rlhf.result import Status

EVERYWHERE = ("sft", "rm", "ppo")


@pytest.mark.parametrize("model", ["gpt2", "bloom560m", "qwen3_0.6b", "llama3.2_1b"])
def test_every_stage_runs_with_adapters_and_recomputed_activations(model: str, make_run: Callable[..., Run]) -> None:
    """And plain transformers reads the merged artifact."""
    run = make_run(
        *("stage=ppo", f"model={model}", f"reward_model={model}", "data=demo", "lora=dim8", "reward_lora=dim8"),
        *(f"data.sources.{source}.cap=200" for source in ("demonstrations", "preferences", "prompts")),
        *(f"{stage}.gradient_checkpointing=true" for stage in EVERYWHERE),
    )
    ended = []
    result = chain.execute(run, lambda each: ended.append((each.name, each.result.status)))
    assert ended == [(stage, Status.finished) for stage in EVERYWHERE], result.message
    rows = [json.loads(line) for line in (Path(result.folder) / "metrics.jsonl").read_text().splitlines()]
    ratios = [row["val/ratio"] for row in rows if "val/ratio" in row]
    assert ratios[0] == pytest.approx(1.0, abs=1e-5)
    policy = AutoModelForCausalLM.from_pretrained(str(result.artifact)).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(result.artifact))
    ids = torch.tensor([tokenizer.encode("When does the bakery open?", add_special_tokens=False)])
    assert torch.isfinite(policy(ids).logits).all()
