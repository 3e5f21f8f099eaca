"""Greedy answers of a policy: as rollouts sample them, and worked out anew for every token."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from rlhf.config import RolloutConfig, Run
from rlhf.data.corpus import Corpus
from rlhf.engine.base import Engine
from rlhf.lineage import LEARNS
from rlhf.models.forward import hidden_states
from rlhf.models.template import document_tokens, prompt_tokens
from rlhf.rollout.sample import sample
from rlhf.stages.interface import Stage

Tokens = list[list[int]]
"""Token ids, one list a prompt or answer."""


def prompts(corpus: Corpus, tokenizer: PreTrainedTokenizerBase, run: Run) -> Tokens:
    """The first `evaluation.prompts` prompts of the run's data; of documents their beginnings."""
    part = "ppo" if corpus.parts.get(("ppo", "train")) else LEARNS[run.stage]
    examples, limit = corpus.examples(part, "train")[: run.evaluation.prompts], run.rollout.max_prompt_tokens
    if all(example.turns for example in examples):
        return [prompt_tokens(tokenizer, example.turns, limit) for example in examples]
    documents = document_tokens(tokenizer, [example.response or "" for example in examples])
    return [document[: min(limit, max(1, len(document) // 2))] for document in documents]


def greedy(stage: Stage[Any], engine: Engine, asked: Tokens, rollout: RolloutConfig) -> Tokens:
    """The policy's likeliest token after another, as rollouts are sampled: side by side, padded, with keys and values kept."""
    policy, tokenizer = stage.export()
    settings, keys = replace(rollout, temperature=0.0), [str(index) for index in range(len(asked))]
    return sample(engine, policy, asked, keys, settings, tokenizer.eos_token_id, tokenizer.pad_token_id)


@torch.no_grad()
def recomputed(stage: Stage[Any], engine: Engine, asked: Tokens, rollout: RolloutConfig) -> Tokens:
    """The same with nothing kept and nothing padded: each token from a forward pass of its own over all that stands before."""
    policy, tokenizer = stage.export()
    answers = []
    was_training = policy.training
    with engine.whole(policy) as model:
        model.eval()
        for prompt in asked:
            said: list[int] = []
            while len(said) < rollout.max_new_tokens and tokenizer.eos_token_id not in said:
                ids = torch.tensor([[*prompt, *said]], device=engine.device)
                hidden = hidden_states(model, ids, torch.ones_like(ids, dtype=torch.bool))
                said.append(int(model.get_output_embeddings()(hidden[:, -1]).argmax(-1)))
            answers.append(said)
        model.train(was_training)
    return answers


def parting(expected: Tokens, got: Tokens) -> str:
    """Where two sets of answers part; empty if they are equal."""
    for number, (wanted, had) in enumerate(zip(expected, got, strict=True), 1):
        if wanted != had:
            at = next((at for at, pair in enumerate(zip(wanted, had, strict=False)) if pair[0] != pair[1]), None)
            if at is None:
                return f"answer {number} has {len(had)} tokens, not {len(wanted)}"
            return f"token {at + 1} of answer {number} is {had[at]}, not {wanted[at]}"
    return ""


def count(answers: Sequence[Sequence[int]]) -> int:
    """Tokens in all."""
    return sum(map(len, answers))
