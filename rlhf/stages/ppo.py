"""Proximal policy optimisation against a reward.

For each update: sample a response to each prompt; score it; then `ppo.inner_epochs` passes over the rollout.

    score   s = (r - mean) / deviation of r on the SFT policy's responses, clipped; minus a penalty without end token
    reward  R_t = - kl_coef * kl_t + [t is the last token] * s,  kl_t = log pi(a_t) - log pi_SFT(a_t)  (Stiennon et al. 2020)
    advantage A, return G: generalised advantage estimation on R and the critic's values, A whitened over the rollout
    policy  - mean over tokens of min(rho A, clip(rho, 1 +- clip_range) A) + entropy_coef * H,  rho = pi / pi_old
                                                                                              (Schulman et al. 2017, eq. 7, 9)
            + ptx_coef * mean over tokens of other text of - log pi(token)                    (Ouyang et al. 2022, eq. 2)
    critic  mean over tokens of 1/2 max((V - G)^2, (V_clipped - G)^2)

Choices: the reference is the SFT policy, frozen; with adapters it is the policy itself with them off. The critic is a
network of its own. It starts as the reward model, and then speaks its normalised scale, V = (head - mean) / deviation; or
as the SFT policy with a new head, also where the reward model reads other tokens than the policy writes. The end token is
an action like any other: it is rewarded and trained. Dropout is off while sampling and scoring. Old log-probabilities are
recomputed by the training forward pass, so the ratio is 1 up to rounding at the first step. Log-probabilities are those
of the tempered distribution, before top_p.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_columns
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.advantages import gae, token_rewards
from rlhf.algorithms.kl import adapted_coefficient, approximate_kl, k1, k3
from rlhf.algorithms.losses import policy_ratio, ppo_policy_loss, sft_loss, value_loss
from rlhf.algorithms.masks import masked_sum, whiten, with_next
from rlhf.config import KLEstimator
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.lineage import READS
from rlhf.metrics import Mean, Metric, Metrics, Peak, Total
from rlhf.models.average import Average
from rlhf.rollout.sample import Response
from rlhf.stages import signs
from rlhf.stages.batches import Rollout, Sequences, Tokens
from rlhf.stages.captured import Captured
from rlhf.stages.examples import epoch_batches, tokens_of
from rlhf.stages.interface import Evaluation, Network, Setting, Stage
from rlhf.stages.networks import Networks
from rlhf.stages.online import Online, Prompt


class PPO(Stage[Rollout]):
    """The policy, a frozen copy of where it started, a reward and a critic."""

    reads = READS["ppo"]
    makes = "policy"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.ppo
        config = self._config
        self._networks = Networks(setting)
        self._policies, self._tokenizer = self._networks.policies, self._networks.tokenizer
        self._online = Online(setting, config, "ppo", self._policies, self._networks.reward)
        self._texts = self._ptx_rows()
        self.rounds, self.micro_batch_size = config.updates, config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = config.log_every, config.eval_every, config.save_every
        setting.engine.prepare(self.trainable())
        self._online.begin()
        if self._networks.critic_speaks_scores:
            self._networks.critic_scale = self._online.scale
        self.notes = [*self._networks.notes, *self._online.notes]
        self._kl_coef = config.kl_coef
        decay = config.ema_decay
        self._average = None if decay is None else Average(setting.engine, self._policies.policy, decay)
        self._moved = Mean(0.0, 0)
        self._captured: Captured

    def trainable(self) -> dict[str, Trainable]:
        """Policy and critic, each with an optimizer of its own."""
        config = self._config
        steps = config.updates * config.inner_epochs * config.minibatches
        return {
            "policy": Trainable(self._policies.policy, OptimizerSpec.of(config, config.learning_rate, steps)),
            "critic": Trainable(self._networks.critic, OptimizerSpec.of(config, config.critic_learning_rate, steps)),
        }

    # data

    def batches(self, first_round: int) -> Iterator[Iterator[Rollout]]:
        """For each update: one rollout, then its minibatches, shuffled anew in each inner epoch."""
        config, seed, corpus = self._config, self._run.seed, self._setting.corpus
        texts = None
        if self._texts is not None:
            per_update = config.inner_epochs * config.batch_size
            texts = epoch_batches(corpus, config.ptx_data.name, seed, self._texts, per_update, first_round)
        for update, rows in enumerate(self._online.prompts(config.batch_size, first_round), first_round):
            rollout = self.rollout(rows, f"rollout/{update}")
            yield self._minibatches(rollout, update, [] if texts is None else next(texts))

    def _minibatches(self, rollout: Rollout, update: int, texts: list[Tokens]) -> Iterator[Rollout]:
        config, device = self._config, self._setting.engine.device
        rollout = replace(rollout, critic_only=update < config.critic_warmup)
        self._captured = replace(self._captured, texts=texts)
        metrics, place = rollout.metrics, 0
        for minibatches in self._online.passes(update):
            self._moved = Mean(0.0, 0)
            for rows in minibatches:
                minibatch = rollout.select(rows).with_value_scale()
                if texts and not rollout.critic_only:
                    text = Sequences.of(texts[place : place + len(rows)], self._tokenizer.pad_token_id, device)
                    minibatch, place = minibatch.with_text(text), place + len(rows)
                yield replace(minibatch, metrics=metrics, first=bool(metrics))
                metrics = Metrics()
            if config.max_update_kl is not None and self._moved_by_all() > config.max_update_kl:
                break
        if self._average is not None:
            self._average.update()
        if config.kl_target is not None:
            kl = rollout.metrics["objective/kl"].value
            self._kl_coef = adapted_coefficient(self._kl_coef, kl, config.kl_target, config.batch_size, config.kl_horizon)

    def _moved_by_all(self) -> float:
        """Approximate KL of the last pass over the rollout to the policy that sampled, over all ranks."""
        moved = self._setting.engine.total(Metrics({"moved": self._moved}))["moved"]
        return moved.value if self._moved.count else 0.0

    def _ptx_rows(self) -> list[Tokens | None] | None:
        """The text of the language-modelling loss, in tokens; None without that loss."""
        if self._config.ptx_coef == 0 or self._setting.captured is not None:
            return None
        examples = self._setting.corpus.examples(self._config.ptx_data.name, "train")
        answers = [[example.response or ""] for example in examples]
        longest = self._run.rollout.max_prompt_tokens + self._run.rollout.max_new_tokens
        rows = tokens_of(self._tokenizer, examples, answers, longest, self._setting.token_cache)
        return [None if row is None else row[0] for row in rows]

    # rollout

    def rollout(self, prompts: Sequence[Prompt], purpose: str) -> Rollout:
        """Sample and score one response for each prompt, and work out advantages."""
        rows, told = self._online.sample(prompts, purpose)
        with self._setting.engine.phase("score"):
            return self.score_rollout([example for example, _ in prompts], rows, told)

    @torch.no_grad()
    def score_rollout(self, examples: Sequence[Example], rows: list[Tokens], sampled: Sequence[Response] = ()) -> Rollout:
        """Log-probabilities, values, scores and advantages of sampled responses.

        Args:
            sampled: what their sampler says of them, where it is known.
        """
        config = self._config
        padded = self._policies.pad(rows)
        ids, mask, targets = padded.ids, padded.mask, padded.targets
        size = config.micro_batch_size
        columns = zip(ids.split(size), mask.split(size), targets.split(size), strict=True)
        parts = self._setting.engine.spread([Sequences(*each) for each in columns], self._measure)
        logprobs, entropies, reference, values = (torch.cat(each) for each in zip(*parts, strict=True))
        raw = self._online.raw_scores(examples, rows)
        scores, ended, told = self._online.scores(raw, rows)
        start = mask.shape[1] - max(len(response) for _, response in rows)
        window = slice(start, None)
        kl = k1(logprobs, reference)
        penalty = kl if config.kl_estimator is KLEstimator.k1 else k3(logprobs, reference)
        valued = self._valued(targets)
        rewards = token_rewards(scores, penalty[:, window], valued[:, window], self._kl_coef)
        told |= signs.of_sampling(logprobs, entropies, targets) | signs.of_sampler(logprobs, targets, sampled)
        told |= signs.of_ends(ids, targets, ended, self._tokenizer.eos_token_id)
        told |= signs.of_rewards(rewards, self._kl_coef * penalty[:, window], scores, valued[:, window])
        if config.whiten_rewards:
            rewards = whiten(rewards, valued[:, window], shift_mean=False, unbiased=config.whiten_unbiased)
        learnt = (rewards, values[:, window], valued[:, window], config.gamma)
        advantages, returns = gae(*learnt, config.gae_lambda)
        if config.value_lambda is not None:  # decoupled, as in VC-PPO (Yuan et al. 2025)
            _, returns = gae(*learnt, config.value_lambda)
        if config.whiten_advantages:
            advantages = whiten(advantages, targets[:, window], unbiased=config.whiten_unbiased)
        credit = (rewards, values[:, window], advantages, returns)
        told |= signs.of_advantages(*credit, targets[:, window], valued[:, window])
        penalty_B = self._kl_coef * (penalty * targets).sum(1)
        metrics: dict[str, Metric] = {
            "objective/scores": Mean.of(scores),
            "objective/kl": Mean.of((kl * targets).sum(1)),
            "objective/kl_coef": Mean(self._kl_coef, 1),
            "objective/entropy": Mean.of((entropies * targets).sum(1)),
            "objective/non_score_reward": Mean.of(-penalty_B),
            "objective/rlhf_reward": Mean.of(scores - penalty_B),
            "response/length_mean": Mean.of(targets.sum(1).float()),
            "response/eos_rate": Mean.of(ended.float()),
            "val/num_eos_tokens": Total(ended.sum().item()),
            "val/explained_variance": _explained_variance(values[:, window], returns, valued[:, window]),
            "perf/tokens": Total(mask.sum().item()),
            **told,
        }
        advantages, returns = (pad_columns(each, (start, 0)) for each in (advantages, returns))
        rollout = Rollout(ids, mask, targets, logprobs, valued, values, advantages, returns, metrics=Metrics(metrics))
        tensors = rollout.tensors() | {"reference": reference}
        self._captured = Captured(rows, raw, self._online.start_scores, list(sampled), tensors, [])
        return rollout

    def _valued(self, targets: Tensor) -> Tensor:
        """Where [B, P + R] the critic is asked."""
        return with_next(targets) if self._config.score_after_end else targets

    def _measure(self, padded: Sequences) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probabilities and entropies of the policy, log-probabilities of the reference, values; [B, P + R] each."""
        logprobs, entropies = self._policies.logprobs(padded)
        values = self._networks.values(replace(padded, targets=self._valued(padded.targets)))
        return logprobs, entropies, self._policies.reference_logprobs(padded), values

    # loss

    def loss(self, batch: Rollout) -> tuple[dict[str, Tensor], Metrics]:
        """Summed value loss and, after the critic's warm-up, summed policy loss; the two share no weights."""
        config, mask = self._config, batch.targets
        values = self._networks.values(replace(batch, targets=batch.valued))
        critic_loss = value_loss(values, batch.values, batch.returns, batch.valued, config.value_clip_range) * batch.value_scale
        reach = float("inf") if config.value_clip_range is None else config.value_clip_range
        moved = (values - batch.values).abs() > reach
        count = batch.weight
        metrics: dict[str, Metric] = {
            "loss/value_avg": Mean(critic_loss.item(), count),
            "val/clipfrac_avg": Mean.of(moved.float(), batch.valued),
        }
        if batch.critic_only:
            return {"critic": critic_loss}, Metrics(metrics)
        logprobs, entropies = self._policies.logprobs(batch)
        policy_loss = ppo_policy_loss(logprobs, batch.logprobs, batch.advantages, mask, config.clip_range)
        ratio = policy_ratio(logprobs.detach(), batch.logprobs, mask)
        if batch.first:
            metrics |= signs.of_first_step(policy_loss, ratio, batch.advantages, mask)
        policy_loss = policy_loss - config.entropy_coef * masked_sum(entropies, mask)
        metrics |= {
            "loss/policy_avg": Mean(policy_loss.item(), count),
            "policy/approxkl_avg": Mean.of(approximate_kl(logprobs, batch.logprobs), mask),
            "policy/clipfrac_avg": Mean.of(((ratio - 1).abs() > config.clip_range).float(), mask),
            "policy/entropy_avg": Mean.of(entropies, mask),
            "val/ratio": Mean.of(ratio, mask),
            "val/ratio_max": Peak(ratio.max().item()),
        }
        self._moved += Mean.of(approximate_kl(logprobs, batch.logprobs), mask)
        if (text := batch.ptx) is not None:
            ptx_loss = sft_loss(self._policies.logprobs(text)[0], text.targets)
            policy_loss = policy_loss + config.ptx_coef * batch.ptx_scale * ptx_loss
            metrics["loss/ptx_avg"] = Mean(ptx_loss.item(), text.weight)
        return {"policy": policy_loss, "critic": critic_loss}, Metrics(metrics)

    # evaluate

    def evaluate(self, round_: int) -> Evaluation:
        """Answers to the fixed held-out prompts, paired with those of the policy it started from under the same noise."""
        return self._online.exam.take(self._average, first=round_ == 0)

    # between rounds

    def state(self) -> dict[str, Tensor]:
        """The KL coefficient, which may adapt, and the running average."""
        average = {} if self._average is None else self._average.weights
        coefficient = {"kl_coef": torch.tensor(self._kl_coef, dtype=torch.float64)}
        return coefficient | {f"average/{name}": value for name, value in average.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        self._kl_coef = state["kl_coef"].item()
        if self._average is not None:
            prefix = "average/"
            self._average.weights = {
                name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
            }

    # of one update

    def networks(self) -> dict[str, Network]:
        """The policy as it started and the critic."""
        return self._networks.whole()

    def captured(self) -> Captured:
        """The update whose batches were made last."""
        return replace(self._captured, critic_speaks_scores=self._networks.critic_speaks_scores)

    def relearn(self, update: int) -> Iterator[Rollout]:
        """The minibatches of a captured update."""
        captured = self._setting.captured
        assert captured is not None
        texts = captured.texts if self._config.ptx_coef else []
        return self._minibatches(self.score_rollout([], captured.rows, captured.sampled), update, texts)

    # after the last round

    def averaged(self) -> dict[str, Tensor] | None:
        """The running average of the policy."""
        return None if self._average is None else self._average.whole()

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policies.policy, self._tokenizer


def _explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Mean:
    """1 - Var(G - V) / Var(G) over the rollout's tokens: 1 is a perfect critic, 0 one that says nothing."""
    residual, target = (returns - values)[mask], returns[mask]
    return Mean(1.0 - (residual.var(correction=0) / target.var(correction=0).clamp(min=1e-8)).item(), 1)
