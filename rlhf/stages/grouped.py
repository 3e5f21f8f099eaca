"""What RLOO and GRPO have in common: several responses to a prompt, each judged beside the others, and no critic.

For each update: `group_size` responses to each prompt; their scores; then `inner_epochs` passes over all of them.

    score    s = (r - mean) / deviation of r on the SFT policy's responses, clipped; minus a penalty without end token
    loss     - sum over tokens of w * min(rho A, clip(rho) A), divided by what the responses count for
             - entropy_coef * w * H, and with KL in the loss + kl_coef * w * k3
    KL       kl_coef * sum over tokens of log pi - log pi_SFT, subtracted from s; or k3 in the loss

A is the response's advantage, the same at all of its tokens; rho = pi / pi_old; w is a token's weight. Each stage says
how A follows from the scores of a group, whose probability rho is, and what a token weighs.

Choices: the reference is the SFT policy, frozen; with adapters it is the policy itself with them off. The end token is an
action like any other. There is no dropout. Old log-probabilities are recomputed by the training forward pass, so rho is 1
up to rounding at the first step. Log-probabilities are those of the tempered distribution, before top_p.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.groups import clipped, weighted_sum
from rlhf.algorithms.kl import approximate_kl, k1, k3
from rlhf.config import GroupedConfig
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.metrics import Mean, Metric, Metrics, Peak, Total
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rollout.sample import Response
from rlhf.stages import signs
from rlhf.stages.batches import Responses, Sequences, Tokens
from rlhf.stages.captured import Captured
from rlhf.stages.interface import Evaluation, Network, Setting, Stage
from rlhf.stages.online import Online, Prompt, load_reward
from rlhf.stages.policies import Policies, recompute

Answered = tuple[list[Example], list[Tokens], Tensor, list[Response]]
"""Prompts, responses, and what the reward [G K] and the sampler said of each."""


@dataclass(frozen=True)
class Scored:
    """G x K responses, those of a group side by side, and their scores."""

    examples: list[Example]
    rows: list[Tokens]
    raw: Tensor  # [G K] what the reward said
    scores: Tensor  # [G K]
    ended: Tensor  # [G K] bool
    told: dict[str, Metric]
    """What else is known of the scores."""
    sampled: list[Response]
    """What the sampler says of the responses."""

    def groups(self, size: int) -> Tensor:
        """Scores [G, K]."""
        return self.scores.view(-1, size)

    def with_groups(self, other: "Scored", mine: Sequence[int], others: Sequence[int], size: int) -> "Answered":
        """These, with the groups ``others`` of ``other`` in the places ``mine``."""
        examples, rows, raw, sampled = [*self.examples], [*self.rows], self.raw.clone(), [*self.sampled]
        for to, source in zip(mine, others, strict=True):
            here, there = slice(to * size, (to + 1) * size), slice(source * size, (source + 1) * size)
            examples[here], rows[here] = other.examples[there], other.rows[there]
            raw[here], sampled[here] = other.raw[there], other.sampled[there]
        return examples, rows, raw, sampled


C = TypeVar("C", bound=GroupedConfig)


class Grouped(Stage[Responses], Generic[C]):
    """A policy, a frozen copy of where it started, and a reward."""

    makes = "policy"
    name: str
    """Of the stage."""

    def __init__(self, setting: Setting, config: C) -> None:
        self._setting, self._run, self._config = setting, setting.run, config
        start = setting.parents[config.init.name]
        self._tokenizer = load_tokenizer(self._run.model, (), start)
        self._policies = Policies(
            setting,
            self._tokenizer,
            start,
            config.reference_device,
            self._run.rollout.temperature,
            entropy_gradient=config.entropy_coef != 0,
        )
        if config.gradient_checkpointing:
            recompute(self._policies.policy)
        self._online = Online(setting, config, self.name, self._policies, load_reward(setting, config, self._policies))
        self.rounds, self.micro_batch_size = config.updates, config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = config.log_every, config.eval_every, config.save_every
        setting.engine.prepare(self.trainable())
        self._online.begin()
        self._captured: Captured
        self.notes = self._online.notes

    def trainable(self) -> dict[str, Trainable]:
        """The policy."""
        config = self._config
        steps = config.updates * config.inner_epochs * config.minibatches
        return {"policy": Trainable(self._policies.policy, OptimizerSpec.of(config, config.learning_rate, steps))}

    # what each stage says

    kl_in_reward: bool
    """Whether KL is paid by the score, or by the loss."""
    clip_ranges: tuple[float, float]
    """How far the ratio may fall below 1, and rise above it."""

    @abstractmethod
    def advantages(self, scores_GK: Tensor) -> Tensor:
        """Advantages [G, K] of responses with these scores."""

    @abstractmethod
    def log_ratio(self, log_ratio_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """The logarithm [B, T] of the ratio that is clipped, from that of each token."""

    @abstractmethod
    def weigh(self, lengths_B: Tensor, ended_B: Tensor) -> tuple[Tensor, Tensor]:
        """The weight [B] of each response's tokens, and what [B] it counts for in the number the loss is divided by."""

    def gather(self, update: int, prompts: Sequence[Prompt]) -> Scored:
        """Scored responses to ``prompts``, or to others where these teach nothing."""
        return self.respond(prompts, f"rollout/{update}")

    def settle(self, scored: Scored) -> Scored:
        """The same with what else scores depend on, once it is settled which responses are learnt from."""
        return scored

    # data

    def batches(self, first_round: int) -> Iterator[Iterator[Responses]]:
        """For each update: one rollout, then its minibatches, shuffled anew in each inner epoch."""
        config = self._config
        prompts = self._online.prompts(config.batch_size // config.group_size, first_round)
        for update, rows in enumerate(prompts, first_round):
            yield self._minibatches(self.weigh_rollout(self.settle(self.gather(update, rows))), update)

    def _minibatches(self, rollout: Responses, update: int) -> Iterator[Responses]:
        metrics = rollout.metrics
        for minibatches in self._online.passes(update):
            for rows in minibatches:
                yield replace(rollout.select(rows), metrics=metrics, first=bool(metrics))
                metrics = Metrics()

    def respond(self, prompts: Sequence[Prompt], purpose: str) -> Scored:
        """Sample and score `group_size` responses to each of ``prompts``; ``purpose`` decides the noise."""
        repeated = [prompt for prompt in prompts for _ in range(self._config.group_size)]
        examples = [example for example, _ in repeated]
        rows, sampled = self._online.sample(repeated, purpose)
        with self._setting.engine.phase("score"), torch.no_grad():
            return self.scored(examples, rows, self._online.raw_scores(examples, rows), sampled)

    def scored(self, examples: list[Example], rows: list[Tokens], raw: Tensor, sampled: list[Response]) -> Scored:
        """Responses with the scores that follow from what the reward said [G K]."""
        return Scored(examples, rows, raw, *self._online.scores(raw, rows), sampled)

    @torch.no_grad()
    def weigh_rollout(self, scored: Scored) -> Responses:
        """Log-probabilities, advantages and weights of scored responses."""
        config = self._config
        padded = self._policies.pad(scored.rows)
        ids, mask, targets = padded.ids, padded.mask, padded.targets
        size = config.micro_batch_size
        columns = zip(ids.split(size), mask.split(size), targets.split(size), strict=True)
        with self._setting.engine.phase("score"):
            parts = self._setting.engine.spread([Sequences(*each) for each in columns], self._measure)
        logprobs, entropies, reference = (torch.cat(each) for each in zip(*parts, strict=True))
        kl_B = (k1(logprobs, reference) * targets).sum(1)
        paid = scored.scores - config.kl_coef * kl_B
        judged = (paid if self.kl_in_reward else scored.scores).view(-1, config.group_size)
        lengths = targets.sum(1)
        metrics: dict[str, Metric] = {
            **self._online.told(padded, scored.scores, scored.ended, config.group_size),
            "objective/kl": Mean.of(kl_B),
            "objective/kl_coef": Mean(config.kl_coef, 1),
            "objective/entropy": Mean.of((entropies * targets).sum(1)),
            "objective/non_score_reward": Mean.of(-config.kl_coef * kl_B),
            "objective/rlhf_reward": Mean.of(paid),
            "val/num_eos_tokens": Total(scored.ended.sum().item()),
            "perf/tokens": Total(mask.sum().item()),
            **scored.told,
            **signs.of_sampling(logprobs, entropies, targets),
            **signs.of_sampler(logprobs, targets, scored.sampled),
        }
        shares, units = self.weigh(lengths, scored.ended)
        advantages = self.advantages(judged).flatten()
        rollout = Responses(ids, mask, targets, logprobs, reference, advantages, shares, units, metrics=Metrics(metrics))
        start_scores = self._online.start_scores
        self._captured = Captured(scored.rows, scored.raw, start_scores, scored.sampled, rollout.tensors(), [])
        return rollout

    def _measure(self, padded: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities and entropies of the policy, log-probabilities of the reference; [B, P + R] each."""
        logprobs, entropies = self._policies.logprobs(padded)
        return logprobs, entropies, self._policies.reference_logprobs(padded)

    # loss

    def loss(self, batch: Responses) -> tuple[dict[str, Tensor], Metrics]:
        """Summed weighted loss."""
        config, mask = self._config, batch.targets
        low, high = self.clip_ranges
        logprobs, entropies = self._policies.logprobs(batch)
        ratio = self.log_ratio((logprobs - batch.logprobs).masked_fill(~mask, 0.0), mask).exp()
        gained = clipped(ratio, batch.advantages[:, None], low, high)
        loss = -weighted_sum(gained + config.entropy_coef * entropies, mask, batch.shares)
        kl = k3(logprobs, batch.reference)
        if not self.kl_in_reward:
            loss = loss + config.kl_coef * weighted_sum(kl, mask, batch.shares)
        ratio, moved = ratio.detach(), logprobs.detach()
        metrics: dict[str, Metric] = {
            "loss/policy_avg": Mean(loss.item(), batch.weight),
            "policy/approxkl_avg": Mean.of(approximate_kl(moved, batch.logprobs), mask),
            "policy/clipfrac_avg": Mean.of(((ratio < 1 - low) | (ratio > 1 + high)).float(), mask),
            "policy/entropy_avg": Mean.of(entropies, mask),
            "policy/reference_kl_avg": Mean.of(kl, mask),
            "val/ratio": Mean.of(ratio, mask),
            "val/ratio_max": Peak(ratio[mask].max().item()),
        }
        if batch.first:
            metrics["signs/first_ratio_error"] = Mean.of((ratio - 1).abs(), mask)
        return {"policy": loss}, Metrics(metrics)

    # evaluate

    def evaluate(self, round_: int) -> Evaluation:
        """Answers to the fixed held-out prompts, paired with those of the policy it started from under the same noise."""
        return self._online.exam.take(None, first=round_ == 0)

    # of one update

    def networks(self) -> dict[str, Network]:
        """The policy as it started."""
        return {self._config.init.name: self._policies.start()}

    def captured(self) -> Captured:
        """The update whose batches were made last."""
        return self._captured

    def relearn(self, update: int) -> Iterator[Responses]:
        """The minibatches of a captured update."""
        captured = self._setting.captured
        assert captured is not None
        scored = self.settle(self.scored([], captured.rows, captured.raw, captured.sampled))
        return self._minibatches(self.weigh_rollout(scored), update)

    # after the last round

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policies.policy, self._tokenizer
