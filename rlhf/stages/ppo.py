"""Proximal policy optimisation against a reward model.

For each update: sample a response to each prompt; score it; then `ppo.inner_epochs` passes over the rollout.

    score   s = (r - mean) / deviation of r on the SFT policy's responses, clipped; minus a penalty without end token
    reward  R_t = - kl_coef * kl_t + [t is the last token] * s,  kl_t = log pi(a_t) - log pi_SFT(a_t)  (Stiennon et al. 2020)
    advantage A, return G: generalised advantage estimation on R and the critic's values, A whitened over the rollout
    policy  - mean over tokens of min(rho A, clip(rho, 1 +- clip_range) A) + entropy_coef * H,  rho = pi / pi_old
                                                                                              (Schulman et al. 2017, eq. 7, 9)
    critic  mean over tokens of 1/2 max((V - G)^2, (V_clipped - G)^2)

Choices: the reference is the SFT policy, frozen; with adapters it is the policy itself with them off. The critic is a
network of its own that starts as the reward model and speaks its normalised scale, V = (head - mean) / deviation. The end
token is an action like any other: it is rewarded and trained. Dropout is off while sampling and scoring. Old
log-probabilities are recomputed by the training forward pass, so the ratio is 1 up to rounding at the first step.
Log-probabilities are those of the tempered distribution, before top_p.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.advantages import gae, token_rewards
from rlhf.algorithms.kl import approximate_kl, k1, k3
from rlhf.algorithms.losses import policy_ratio, ppo_policy_loss, value_loss
from rlhf.algorithms.masks import masked_sum, whiten
from rlhf.config import KLEstimator, RewardNormalization, Run
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.fault import Fault
from rlhf.metrics import Mean, Metric, Metrics, Peak, Total
from rlhf.models.adapters import add_adapters, without_adapters
from rlhf.models.forward import token_logprobs, token_scores
from rlhf.models.load import load_policy, load_scorer
from rlhf.models.template import prompt_tokens
from rlhf.models.tokenizer import load_tokenizer, same_tokens
from rlhf.rewards.model import score
from rlhf.rollout.sample import left_pad, noise_keys, sample
from rlhf.stages.answers import Answers, answer
from rlhf.stages.batches import Rollout, Tokens
from rlhf.stages.examples import epoch_batches, in_groups, in_turns
from rlhf.stages.interface import Evaluation, Setting
from rlhf.stages.paired import paired_gain

SMALLEST_DEVIATION = 1e-5
"""Of raw scores; below it they are rounding noise, which normalisation would blow up into a reward."""


class PPO:
    """The policy, a frozen copy of where it started, a reward model and a critic."""

    reads: tuple[str, ...] = ("seed", "model", "reward_model", "data", "lora", "reward_lora", "ppo", "rollout", "evaluation")
    makes = "policy"

    @staticmethod
    def parents(run: Run) -> dict[str, str]:
        """The SFT policy and the reward model."""
        return {"sft": "policy", "rm": "reward_model"}

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.ppo
        sft, rm, seed = setting.parents["sft"], setting.parents["rm"], self._run.seed
        self._tokenizer = load_tokenizer(self._run.model, (), sft)
        same_tokens(self._tokenizer, load_tokenizer(self._run.reward_model, (), rm))
        self._policy = load_policy(self._run.model, self._tokenizer, sft, seed)
        self._reward_model = load_scorer(self._run.reward_model, self._tokenizer, rm, seed, fresh_head=False)
        self._critic = copy.deepcopy(self._reward_model)
        self._copy = None if self._run.lora.dim else copy.deepcopy(self._policy)
        add_adapters(self._policy, self._run.lora, "lora", seed)
        add_adapters(self._critic, self._run.reward_lora, "reward_lora", seed, keep=["score"])
        for trained in (self._policy, self._critic):
            setting.engine.place(trained)
            trained.eval()  # no dropout anywhere: the ratio compares two passes of the same function
        for frozen in filter(None, (self._copy, self._reward_model)):
            setting.engine.freeze(frozen)
        if self._config.gradient_checkpointing:
            for network in (self._policy, self._critic):
                network.gradient_checkpointing_enable()
                network.train()  # transformers recomputes in training mode only; `checks` sees to it that dropout is 0
        self._prompts = [
            (example, prompt_tokens(self._tokenizer, example.turns, self._run.rollout.max_prompt_tokens))
            for example in setting.corpus.examples("ppo", "train")
        ]
        self.rounds, self.steps_per_round = self._config.updates, self._config.inner_epochs * self._config.minibatches
        self.micro_batch_size = self._config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = (
            self._config.log_every,
            self._config.eval_every,
            self._config.save_every,
        )
        setting.engine.prepare(self.trainable())
        self._mean, self._deviation = self._normalisation()
        self.notes = [f"scores are (raw - {self._mean:.3f}) / {self._deviation:.3f}"]
        self._before: Answers | None = None

    def trainable(self) -> dict[str, Trainable]:
        """Policy and critic, each with an optimizer of its own."""
        config, steps = self._config, self.rounds * self.steps_per_round
        return {
            "policy": Trainable(self._policy, OptimizerSpec.of(config, config.learning_rate, steps)),
            "critic": Trainable(self._critic, OptimizerSpec.of(config, config.critic_learning_rate, steps)),
        }

    # rollout

    def batches(self, first_round: int) -> Iterator[Rollout]:
        """For each update: one rollout, then its minibatches, shuffled anew in each inner epoch."""
        config, seed = self._config, self._run.seed
        prompts = epoch_batches(self._setting.corpus, "ppo", seed, self._prompts, config.batch_size, first_round)
        for update, rows in enumerate(prompts, first_round):
            rollout = replace(self.rollout(rows, f"rollout/{update}"), critic_only=update < config.critic_warmup)
            metrics = rollout.metrics
            shuffling = torch.Generator().manual_seed(seed * 1_000_003 + update)
            for _ in range(config.inner_epochs):
                order = torch.randperm(config.batch_size, generator=shuffling).to(self._setting.engine.device)
                for minibatch in order.split(config.batch_size // config.minibatches):
                    yield rollout.select(minibatch, metrics)
                    metrics = Metrics()

    def rollout(self, prompts: Sequence[tuple[Example, list[int]]], purpose: str) -> Rollout:
        """Sample and score one response for each prompt, and work out advantages."""
        eos, pad = self._tokenizer.eos_token_id, self._tokenizer.pad_token_id
        keys = noise_keys(f"{self._run.seed}/{purpose}", [example.key for example, _ in prompts])
        ids, engine = [ids for _, ids in prompts], self._setting.engine
        with engine.phase("rollout"):
            responses = sample(engine, self._policy, ids, keys, self._run.rollout, eos, pad)
        rows = [(ids, response) for (_, ids), response in zip(prompts, responses, strict=True)]
        with engine.phase("score"):
            return self.score_rollout(rows)

    @torch.no_grad()
    def score_rollout(self, rows: list[Tokens]) -> Rollout:
        """Log-probabilities, values, scores and advantages of sampled responses."""
        config, device = self._config, self._setting.engine.device
        ids, mask, targets = self._pad(rows)
        micro_batches = zip(*(each.split(config.micro_batch_size) for each in (ids, mask, targets)), strict=True)
        parts = self._setting.engine.spread(list(micro_batches), self._measure)
        logprobs, entropies, reference, values = (torch.cat(each) for each in zip(*parts, strict=True))
        raw = score(self._reward_model, rows, self._tokenizer.pad_token_id, self._setting.engine, config.micro_batch_size)
        ended = torch.tensor([response[-1] == self._tokenizer.eos_token_id for _, response in rows], device=device)
        scores = self._shape(raw, ended)
        start = mask.shape[1] - max(len(response) for _, response in rows)
        kl = k1(logprobs, reference)
        window = slice(start, None)
        penalty = kl if config.kl_estimator is KLEstimator.k1 else k3(logprobs, reference)
        rewards = token_rewards(scores, penalty[:, window], targets[:, window], config.kl_coef)
        advantages, returns = gae(rewards, values[:, window], targets[:, window], config.gamma, config.gae_lambda)
        if config.whiten_advantages:
            advantages = whiten(advantages, targets[:, window])
        lengths = targets.sum(1).float()
        penalty_B = config.kl_coef * (penalty * targets).sum(1)
        metrics: dict[str, Metric] = {
            "objective/scores": Mean.of(scores),
            "objective/kl": Mean.of((kl * targets).sum(1)),
            "objective/entropy": Mean.of((entropies * targets).sum(1)),
            "objective/non_score_reward": Mean.of(-penalty_B),
            "objective/rlhf_reward": Mean.of(scores - penalty_B),
            "response/length_mean": Mean.of(lengths),
            "response/eos_rate": Mean.of(ended.float()),
            "val/num_eos_tokens": Total(ended.sum().item()),
            "val/explained_variance": _explained_variance(values[:, window], returns, targets[:, window]),
            "perf/tokens": Total(mask.sum().item()),
        }
        advantages, returns = (torch.nn.functional.pad(each, (start, 0)) for each in (advantages, returns))
        return Rollout(ids, mask, targets, logprobs, values, advantages, returns, metrics=Metrics(metrics))

    def _measure(self, padded: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probabilities and entropies of the policy, log-probabilities of the reference, values; [B, P + R] each."""
        logprobs, entropies = self._logprobs(self._policy, *padded)
        return logprobs, entropies, self._reference_logprobs(*padded), self._values(*padded)

    @contextmanager
    def _reference(self) -> Iterator[PreTrainedModel]:
        """The SFT policy: a frozen copy of it, or, where adapters are trained, the policy with its adapters off."""
        if self._copy is not None:
            yield self._copy
        else:
            with without_adapters(self._policy):
                yield self._policy

    def _reference_logprobs(self, *padded: Tensor) -> Tensor:
        with self._reference() as reference:
            return self._logprobs(reference, *padded)[0]

    def _logprobs(self, policy: PreTrainedModel, ids: Tensor, mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        temperature, bonus = self._run.rollout.temperature, self._config.entropy_coef != 0
        return self._setting.engine.forward(token_logprobs, policy, ids, mask, targets, temperature, bonus)

    def _values(self, ids: Tensor, mask: Tensor, targets: Tensor) -> Tensor:
        """The critic's value before each response token, at that token's place; 0 elsewhere."""
        scores = self._setting.engine.forward(token_scores, self._critic, ids, mask)
        before = (scores - self._mean) / self._deviation
        return before.roll(1, dims=1).masked_fill(~targets, 0.0)

    def _shape(self, raw: Tensor, ended: Tensor) -> Tensor:
        scores = (raw - self._mean) / self._deviation
        if self._config.reward_clip is not None:
            scores = scores.clamp(-self._config.reward_clip, self._config.reward_clip)
        return scores - self._config.missing_eos_penalty * (~ended).float()

    def _pad(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor, Tensor]:
        """Prompts padded on the left and responses on the right: ids, mask and targets [B, P + R]."""
        pad, device = self._tokenizer.pad_token_id, self._setting.engine.device
        prompts, prompt_mask = left_pad([prompt for prompt, _ in rows], pad, device)
        reversed_ids, reversed_mask = left_pad([response[::-1] for _, response in rows], pad, device)
        responses, response_mask = reversed_ids.flip(1), reversed_mask.flip(1)
        targets = torch.cat([torch.zeros_like(prompt_mask), response_mask], 1)
        return torch.cat([prompts, responses], 1), torch.cat([prompt_mask, response_mask], 1), targets

    def _normalisation(self) -> tuple[float, float]:
        """Mean and deviation of raw scores on the SFT policy's responses to some training prompts."""
        if self._config.reward_normalization is RewardNormalization.none:
            return 0.0, 1.0
        count = self._config.normalization_prompts
        prompts = next(epoch_batches(self._setting.corpus, "ppo", self._run.seed, self._prompts, count, 0))
        examples = [example for example, _ in prompts]
        with self._reference() as sft:
            answers = answer(self._setting, sft, self._tokenizer, examples, self._run.rollout, "normalisation")
        raw = self._raw_scores(answers)
        mean, deviation = raw.mean().item(), raw.std().item()
        if deviation < SMALLEST_DEVIATION:
            raise Fault(
                f"ppo.reward_normalization=reference: the reward model scores {count} different responses alike (deviation "
                f"{deviation:.1e}), so it cannot be learned from; train it longer, or use ppo.reward_normalization=none"
            )
        return mean, deviation

    # loss

    def loss(self, batch: Rollout) -> tuple[dict[str, Tensor], Metrics]:
        """Summed value loss and, after the critic's warm-up, summed policy loss; the two share no weights."""
        config, mask = self._config, batch.targets
        values = self._values(batch.ids, batch.mask, mask)
        critic_loss = value_loss(values, batch.values, batch.returns, mask, config.value_clip_range)
        reach = float("inf") if config.value_clip_range is None else config.value_clip_range
        moved = (values - batch.values).abs() > reach
        count = batch.weight
        metrics: dict[str, Metric] = {
            "loss/value_avg": Mean(critic_loss.item(), count),
            "val/clipfrac_avg": Mean.of(moved.float(), mask),
        }
        if batch.critic_only:
            return {"critic": critic_loss}, Metrics(metrics)
        logprobs, entropies = self._logprobs(self._policy, batch.ids, batch.mask, mask)
        policy_loss = ppo_policy_loss(logprobs, batch.logprobs, batch.advantages, mask, config.clip_range)
        policy_loss = policy_loss - config.entropy_coef * masked_sum(entropies, mask)
        ratio = policy_ratio(logprobs.detach(), batch.logprobs, mask)
        metrics |= {
            "loss/policy_avg": Mean(policy_loss.item(), count),
            "policy/approxkl_avg": Mean.of(approximate_kl(logprobs, batch.logprobs), mask),
            "policy/clipfrac_avg": Mean.of(((ratio - 1).abs() > config.clip_range).float(), mask),
            "policy/entropy_avg": Mean.of(entropies, mask),
            "val/ratio": Mean.of(ratio, mask),
            "val/ratio_max": Peak(ratio.max().item()),
        }
        return {"policy": policy_loss, "critic": critic_loss}, Metrics(metrics)

    # evaluate

    @torch.no_grad()
    def evaluate(self, round_: int) -> Evaluation:
        """Answers to the fixed held-out prompts, paired with the SFT policy's answers under the same noise."""
        held_out, count = self._setting.corpus.examples("ppo", "held_out"), self._run.evaluation.prompts
        examples = [held_out[index] for index in in_turns(held_out, count)[:count]]
        if self._before is None:
            with self._reference() as sft:
                self._before = self._answer(sft, examples)
        answers = self._before if round_ == 0 else self._answer(self._policy, examples)
        scores, scores_before = self._raw_scores(answers), self._raw_scores(self._before)
        metrics: dict[str, Metric] = {
            "eval/score_mean": Mean.of((scores - self._mean) / self._deviation),
            "eval/kl": Mean.of(self._sequence_kl(answers)),
            "response/repetition_sft": self._before.metrics()["response/repetition"],
        }
        metrics |= paired_gain("reward/gain", ((scores - scores_before) / self._deviation).tolist())
        if answers.gold is not None and self._before.gold is not None:
            gold, before = torch.tensor(answers.gold), torch.tensor(self._before.gold)
            metrics |= paired_gain("reward/gold_gain", (gold - before).tolist())
            if len(gold) > 1:
                metrics["reward/gold_sd_sft"] = Mean(before.std().item(), 1)
            if (correlation := _correlation(scores.cpu(), gold)) is not None:
                metrics["reward/gold_correlation"] = Mean(correlation, 1)
        limit = self._run.evaluation.samples
        shown = replace(answers, examples=answers.examples[:limit], texts=answers.texts[:limit])
        samples = shown.samples(score=scores.tolist(), sft_response=self._before.texts)
        spread = {"score": ((scores - self._mean) / self._deviation).tolist()} | (
            {"gold": answers.gold} if answers.gold else {}
        )
        return Evaluation(answers.metrics() + metrics, samples, spread)

    def _answer(self, policy: PreTrainedModel, examples: Sequence[Example]) -> Answers:
        return answer(self._setting, policy, self._tokenizer, examples, self._run.rollout, "evaluation")

    def _raw_scores(self, answers: Answers) -> Tensor:
        size = self._run.evaluation.micro_batch_size
        return score(self._reward_model, answers.tokens, self._tokenizer.pad_token_id, self._setting.engine, size)

    def _sequence_kl(self, answers: Answers) -> Tensor:
        """log pi - log pi_SFT summed over each answer, in nats."""

        def sums(rows: Sequence[Tokens]) -> Tensor:
            ids, mask, targets = self._pad(rows)
            logprobs, _ = self._logprobs(self._policy, ids, mask, targets)
            return (k1(logprobs, self._reference_logprobs(ids, mask, targets)) * targets).sum(1)

        groups = in_groups(answers.tokens, self._run.evaluation.micro_batch_size)
        return torch.cat(self._setting.engine.spread(list(groups), sums))

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policy, self._tokenizer


def _explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Mean:
    """1 - Var(G - V) / Var(G) over the rollout's tokens: 1 is a perfect critic, 0 one that says nothing."""
    residual, target = (returns - values)[mask], returns[mask]
    return Mean(1.0 - (residual.var(correction=0) / target.var(correction=0).clamp(min=1e-8)).item(), 1)


def _correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    correlation = torch.corrcoef(torch.stack([first.float(), second.float()]))[0, 1].item() if len(first) > 1 else math.nan
    return correlation if math.isfinite(correlation) else None
