"""What a policy answers to held-out prompts, and what can be said of the answers without a model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.config import EvaluationConfig, RolloutConfig
from rlhf.data.records import Example
from rlhf.data.world import repetition
from rlhf.metrics import Mean, Metrics
from rlhf.models.template import prompt_tokens, response_text
from rlhf.rollout.sample import noise_keys, sample
from rlhf.stages.batches import Tokens
from rlhf.stages.interface import Setting


@dataclass(frozen=True)
class Answers:
    """Prompts with one sampled answer each."""

    examples: Sequence[Example]
    tokens: list[Tokens]
    texts: list[str]
    ended: list[bool]
    """Whether the answer ended by itself."""
    gold: list[float] | None
    """The known reward of each answer, where the data has one."""

    def metrics(self) -> Metrics:
        """Length in tokens, share that ended by itself, repeated word 3-grams, distinct word pairs, gold reward."""
        count = len(self.texts)
        metrics = {
            "response/length_mean": Mean(sum(len(response) for _, response in self.tokens), count),
            "response/eos_rate": Mean(sum(self.ended), count),
            "response/repetition": Mean(sum(map(repetition, self.texts)), count),
            "response/distinct_2": distinct(self.texts, 2),
        }
        if self.gold is not None:
            metrics["reward/gold_mean"] = Mean(sum(self.gold), count)
        return Metrics(metrics)

    def samples(self, **columns: Sequence[float | str]) -> list[dict[str, str | float]]:
        """Rows for ``samples.jsonl``: prompt, response, gold reward if known, and ``columns``."""
        rows: list[dict[str, str | float]] = []
        for index, (example, text) in enumerate(zip(self.examples, self.texts, strict=True)):
            row: dict[str, str | float] = {"prompt": "\n".join(turn.text for turn in example.turns), "response": text}
            if self.gold is not None:
                row["gold"] = self.gold[index]
            rows.append(row | {name: values[index] for name, values in columns.items()})
        return rows


def plain_sampling(evaluation: EvaluationConfig, max_prompt_tokens: int) -> RolloutConfig:
    """Sampling from the whole distribution as it is, for stages that sample in evaluations only."""
    return RolloutConfig(
        max_prompt_tokens=max_prompt_tokens,
        max_new_tokens=evaluation.max_new_tokens,
        temperature=1.0,
        top_p=1.0,
        micro_batch_size=evaluation.micro_batch_size,
    )


def distinct(texts: Sequence[str], size: int) -> Mean:
    """Distinct runs of ``size`` words among all of them, over all texts together (Li et al. 2016)."""
    words = [re.findall(r"[\w']+", text.lower()) for text in texts]
    runs = [tuple(each[first : first + size]) for each in words for first in range(len(each) - size + 1)]
    return Mean(len(set(runs)), max(1, len(runs)))


def answer(
    setting: Setting,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    rollout: RolloutConfig,
    purpose: str,
) -> Answers:
    """Sample one answer for each example; ``purpose`` and the run's seed decide the noise, so policies can be paired."""
    prompts = [prompt_tokens(tokenizer, example.turns, rollout.max_prompt_tokens) for example in examples]
    keys = noise_keys(f"{setting.run.seed}/{purpose}", [example.key for example in examples])
    responses = sample(setting.engine, policy, prompts, keys, rollout, tokenizer.eos_token_id, tokenizer.pad_token_id)
    texts = [response_text(tokenizer, response) for response in responses]
    judge = setting.corpus.gold
    return Answers(
        examples=examples,
        tokens=list(zip(prompts, responses, strict=True)),
        texts=texts,
        ended=[response[-1] == tokenizer.eos_token_id for response in responses],
        gold=None if judge is None else [judge(example.turns, text) for example, text in zip(examples, texts, strict=True)],
    )
