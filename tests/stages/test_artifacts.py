"""Artifacts load in plain transformers, in a process where our package cannot be imported, with equal outputs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from rlhf import chain
from rlhf.config import Run
from rlhf.data.records import Turn
from rlhf.models.load import load_policy, load_scorer
from rlhf.models.template import prompt_tokens
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.model import sequence_scores
from rlhf.stages.batches import Sequences

PLAIN = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("rlhf", "sweeps", "launchers"):
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

policy, scorer = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(policy)
messages = [{"role": "user", "content": "When does the library open?"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
model = AutoModelForCausalLM.from_pretrained(policy)
generated = model.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False)
classifier = AutoModelForSequenceClassification.from_pretrained(scorer)
full = torch.tensor([ids + [20, tokenizer.eos_token_id, tokenizer.pad_token_id]])
mask = torch.tensor([[1] * (len(ids) + 2) + [0]])
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0, -1].tolist()
    score = classifier(input_ids=full, attention_mask=mask).logits.item()
print(json.dumps({"ids": ids, "logits": logits, "score": score, "eos": model.generation_config.eos_token_id}))
"""


def test_artifacts_load_in_plain_transformers(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run("stage=rm")
    scorer = chain.execute(run)
    policy = chain.execute(make_run("stage=sft"))
    output = subprocess.run(
        [sys.executable, "-c", PLAIN, str(policy.artifact), str(scorer.artifact)], cwd=tmp_path, capture_output=True, text=True
    )
    assert output.returncode == 0, output.stderr
    plain = json.loads(output.stdout.splitlines()[-1])

    tokenizer = load_tokenizer(run.model, (), Path(policy.artifact or ""))
    ids = prompt_tokens(tokenizer, (Turn("user", "When does the library open?"),), 64)
    assert plain["ids"] == ids and plain["eos"] == tokenizer.eos_token_id
    model = load_policy(run.model, tokenizer, Path(policy.artifact or ""), seed=0).eval()
    ours = load_scorer(run.reward_model, tokenizer, Path(scorer.artifact or ""), seed=0, fresh_head=False).eval()
    rows = Sequences.of([(ids, [20, tokenizer.eos_token_id])], tokenizer.pad_token_id, torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(
            torch.tensor(plain["logits"]), model(torch.tensor([ids])).logits[0, -1], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(plain["score"], sequence_scores(ours, rows).item(), rtol=1e-4, atol=1e-5)
