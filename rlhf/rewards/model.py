"""A reward model's score of prompt and response: its head at their last token, or on average over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf import artifact
from rlhf.algorithms.masks import last_true
from rlhf.config import Pooling
from rlhf.data.records import Example
from rlhf.engine.base import Engine
from rlhf.models.brought import brought
from rlhf.models.forward import token_scores
from rlhf.models.load import load_scorer
from rlhf.models.template import prompt_tokens, response_tokens
from rlhf.models.tokenizer import load_tokenizer, same_tokens
from rlhf.runs import artifact_in
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.examples import MIN_PROMPT_TOKENS, in_groups


def sequence_scores(scorer: PreTrainedModel, batch: Sequences) -> Tensor:
    """One score [B] a sequence, wherever the padding stands."""
    return pooled_scores(scorer, token_scores(scorer, batch.ids, batch.mask), batch.mask)


def set_pooling(scorer: PreTrainedModel, pooling: Pooling) -> None:
    """Say in the scorer's own configuration how its score is read, so that it is read so wherever it is loaded."""
    scorer.config.score_pooling = pooling.name


def pooled_scores(scorer: PreTrainedModel, scores_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The score [B] of each row: that of its last true token, or the mean of all true ones, as the scorer was trained."""
    if getattr(scorer.config, "score_pooling", Pooling.last.name) == Pooling.mean.name:
        return scores_BT.masked_fill(~mask_BT, 0.0).sum(1) / mask_BT.sum(1)
    return scores_BT.gather(1, last_true(mask_BT)[:, None]).squeeze(1)


@torch.no_grad()
def score(scorer: PreTrainedModel, rows: Sequence[Tokens], pad: int, engine: Engine, micro_batch_size: int) -> Tensor:
    """Scores [N] of many responses, ``micro_batch_size`` at a time."""

    def scores(group: Sequence[Tokens]) -> Tensor:
        return engine.forward(sequence_scores, scorer, Sequences.of(group, pad, engine.device))

    return torch.cat(engine.spread(list(in_groups(rows, micro_batch_size)), scores))


@dataclass(frozen=True)
class ModelReward:
    """The score of a reward model that reads the policy's tokens."""

    scorer: PreTrainedModel
    pad: int
    engine: Engine
    micro_batch_size: int

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        """See ``Reward``."""
        return score(self.scorer, rows, self.pad, self.engine, self.micro_batch_size)


@dataclass(frozen=True)
class RereadingReward:
    """The score of a reward model with a tokenizer of its own: it reads prompt and response as text, in its own template."""

    scorer: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    end: int
    """The policy's end token."""
    max_prompt_tokens: int
    """Of the reward model's own; the oldest go, as everywhere."""
    engine: Engine
    micro_batch_size: int

    def score(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> Tensor:
        """See ``Reward``."""
        read = self.reread(examples, texts, rows)
        return score(self.scorer, read, self.tokenizer.pad_token_id, self.engine, self.micro_batch_size)

    def reread(self, examples: Sequence[Example], texts: Sequence[str], rows: Sequence[Tokens]) -> list[Tokens]:
        """Prompts and responses in the reward model's tokens. A response that was cut off has no end token here either.

        One that takes more positions than the network has is cut off at them.
        """
        longest: int | None = getattr(self.scorer.config, "max_position_embeddings", None)
        read = []
        for example, response, (_, sampled) in zip(examples, response_tokens(self.tokenizer, texts), rows, strict=True):
            limit = self.max_prompt_tokens
            if sampled[-1] != self.end:
                response = response[:-1]
            if longest is not None:
                response = response[: longest - MIN_PROMPT_TOKENS]
                limit = min(limit, longest - len(response))
            read.append((prompt_tokens(self.tokenizer, example.turns, limit), response))
        return read


def reads_policy(
    scorer: PreTrainedModel,
    reader: PreTrainedTokenizerBase,
    policy: PreTrainedTokenizerBase,
    max_prompt_tokens: int,
    engine: Engine,
    micro_batch_size: int,
) -> ModelReward | RereadingReward:
    """The reward by ``scorer``, which reads with ``reader``, of what a policy writes with the tokenizer ``policy``."""
    if same_tokens(policy, reader):
        return ModelReward(scorer, reader.pad_token_id, engine, micro_batch_size)
    return RereadingReward(scorer, reader, policy.eos_token_id, max_prompt_tokens, engine, micro_batch_size)


def brought_reward(
    folder: str, policy: PreTrainedTokenizerBase, max_prompt_tokens: int, engine: Engine, micro_batch_size: int
) -> ModelReward | RereadingReward:
    """The reward by the finished reward model in ``folder``, a run's or an artifact's.

    Raises:
        Fault: there is none, or it is broken.
    """
    path = artifact_in(folder)
    artifact.load(path, "reward_model", "evaluation.reward_model")
    described = brought(path.name)
    reader = load_tokenizer(described, (), path)
    scorer = load_scorer(described, reader, path, seed=0, fresh_head=False)
    engine.freeze(scorer)
    return reads_policy(scorer, reader, policy, max_prompt_tokens, engine, micro_batch_size)
