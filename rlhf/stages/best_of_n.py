"""Best of n: fine-tuning on the responses that a reward prefers (rejection sampling; Touvron et al. 2023, section 3.2.3).

For each update: `n` responses to each prompt; their scores; the best of each prompt is kept; then `inner_epochs` passes
over the kept ones.

    kept  y* = the one of y_1 ... y_n ~ pi_0 with the highest score s
    s     (r - mean) / deviation of r on the SFT policy's responses, clipped; minus a penalty without end token
    loss  - sum over tokens of the kept responses of log pi(token | what stands before it) / number of these tokens

`best_of_n.sample_from`: pi_0 is the policy it started from (`start`), and the policy learns to be the best of n of it, at
most log n - (n - 1) / n nats away; or the policy as it is (`current`), each update going on from the last (RAFT, Dong et
al. 2023), as far as the reward leads.

Choices: a response that did not end is not kept, unless `best_of_n.ended_only=false`; nor one whose raw score is below
`best_of_n.min_score` (rejection sampling fine-tuning on right answers, Yuan et al. 2023). A prompt with nothing to keep
teaches nothing. Of equal scores the first is kept. Log-probabilities are those of the tempered distribution, before top_p.
There is no dropout.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.best_of import best
from rlhf.algorithms.ensemble import pessimistic
from rlhf.algorithms.losses import sft_loss
from rlhf.config import SampleFrom
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.lineage import READS
from rlhf.metrics import Mean, Metric, Metrics, Total
from rlhf.models.template import response_text
from rlhf.models.tokenizer import load_tokenizer
from rlhf.stages import signs
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stages.online import Online, Prompt, load_reward
from rlhf.stages.policies import Policies, recompute


@dataclass(frozen=True)
class Kept:
    """A response to each of G prompts."""

    examples: list[Example]
    rows: list[Tokens]
    found: Tensor  # [G] bool, false where none of the prompt's responses may be kept
    raw: Tensor  # [G] scores as the reward gives them
    metrics: Metrics


class BestOfN(Stage[Sequences]):
    """A policy, a frozen copy of where it started, and a reward."""

    reads = READS["best_of_n"]
    makes = "policy"
    keeps_rows = True

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.best_of_n
        config, start = self._config, setting.parents[self._config.init.name]
        self._tokenizer = load_tokenizer(self._run.model, (), start)
        self._policies = Policies(setting, self._tokenizer, start, config.reference_device, self._run.rollout.temperature)
        if config.gradient_checkpointing:
            recompute(self._policies.policy)
        self._online = Online(setting, config, "best_of_n", self._policies, load_reward(setting, config, self._policies))
        self.rounds, self.micro_batch_size = config.updates, config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = config.log_every, config.eval_every, config.save_every
        setting.engine.prepare(self.trainable())
        self._online.begin()
        self.notes = self._online.notes
        self._untrained: dict[str, Metric] | None = None
        self._rows: list[dict[str, Any]] = []

    def trainable(self) -> dict[str, Trainable]:
        """The policy."""
        config = self._config
        steps = config.updates * config.inner_epochs * config.minibatches
        return {"policy": Trainable(self._policies.policy, OptimizerSpec.of(config, config.learning_rate, steps))}

    # data

    def batches(self, first_round: int) -> Iterator[Iterator[Sequences]]:
        """For each update: what is kept of its samples in minibatches, shuffled anew in each inner epoch."""
        for update, prompts in enumerate(self._online.prompts(self._config.batch_size, first_round), first_round):
            kept = self.gather(prompts, f"rollout/{update}")
            self._rows += self._demonstrations(kept, update)
            yield self._minibatches(kept, update)

    def _minibatches(self, kept: Kept, update: int) -> Iterator[Sequences]:
        metrics, device = kept.metrics, self._setting.engine.device
        for minibatches in self._online.passes(update):
            for places in minibatches:
                rows = [kept.rows[place] for place in places.tolist()]
                batch = Sequences.of(rows, self._tokenizer.pad_token_id, device)
                yield replace(batch, targets=batch.targets & kept.found[places, None], metrics=metrics)
                metrics = Metrics()

    # rollout

    def gather(self, prompts: Sequence[Prompt], purpose: str) -> Kept:
        """Sample and score `n` responses to each of ``prompts`` and keep the best; ``purpose`` decides the noise."""
        config, size = self._config, self._config.n
        repeated = [prompt for prompt in prompts for _ in range(size)]
        rows, _ = self._online.sample(repeated, purpose, from_start=config.sample_from is SampleFrom.start)
        with self._setting.engine.phase("score"), torch.no_grad():
            raw = self._online.raw_scores([example for example, _ in repeated], rows)
            scores, ended, told = self._online.scores(raw, rows)
            raw = pessimistic(raw, self._run.reward)
        allowed = ended if config.ended_only else torch.ones_like(ended)
        if config.min_score is not None:
            allowed = allowed & (raw >= config.min_score)
        groups = scores.view(-1, size), allowed.view(-1, size)
        places, found = best(*groups)
        chosen = torch.arange(len(prompts), device=places.device) * size + places
        kept = [rows[index] for index in chosen.tolist()]
        told |= self._online.told(self._policies.pad(rows), scores, ended, size)
        told |= _told_of_kept(kept, scores[chosen], found) | signs.of_kept(scores[chosen], *groups, found)
        return Kept([example for example, _ in prompts], kept, found, raw[chosen], Metrics(told))

    # loss

    def loss(self, batch: Sequences) -> tuple[dict[str, Tensor], Metrics]:
        """Summed negative log-likelihood of the kept responses."""
        logprobs, entropies = self._policies.logprobs(batch)
        return {"policy": sft_loss(logprobs, batch.targets)}, Metrics({"policy/entropy_avg": Mean.of(entropies, batch.targets)})

    # evaluate

    def evaluate(self, round_: int) -> Evaluation:
        """As `ppo`; and beside it what the best of n of where it started gains, which nobody trained."""
        evaluation = self._online.exam.take(None, first=round_ == 0)
        if self._untrained is None:
            self._untrained = self._online.exam.best_of(self._config.n)
        return replace(evaluation, metrics=evaluation.metrics + self._untrained)

    # what it leaves behind

    def _demonstrations(self, kept: Kept, update: int) -> Iterator[dict[str, Any]]:
        """Rows that `data=local` reads as demonstrations; an empty response is none."""
        each = zip(kept.examples, kept.rows, kept.raw.tolist(), kept.found.tolist(), strict=True)
        for example, (_, response), score, found in each:
            text = response_text(self._tokenizer, response)
            if found and text.strip():
                prompt = [{"role": turn.role, "content": turn.text} for turn in example.turns]
                yield {"prompt": prompt, "response": text, "score": score, "n": self._config.n, "round": update + 1}

    def take_rows(self) -> list[dict[str, Any]]:
        """The responses that were kept since it was last asked."""
        rows, self._rows = self._rows, []
        return rows

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policies.policy, self._tokenizer


def _told_of_kept(rows: list[Tokens], scores: Tensor, found: Tensor) -> dict[str, Metric]:
    """Of the responses that are learnt from, those ``found`` [G], their scores [G] and lengths."""
    learnt = [row for row, one in zip(rows, found.tolist(), strict=True) if one]
    metrics: dict[str, Metric] = {
        "objective/kept": Mean.of(found.float()),
        "perf/tokens": Total(sum(len(prompt) + len(response) for prompt, response in learnt)),
    }
    if learnt:
        metrics["objective/kept_scores"] = Mean.of(scores, found)
        metrics["response/kept_length_mean"] = Mean(sum(len(response) for _, response in learnt), len(learnt))
    return metrics
