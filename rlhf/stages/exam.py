"""What a policy is measured by: the same held-out prompts each time, answered under the same noise, beside where it started."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.algorithms.ensemble import disagreement, pessimistic
from rlhf.algorithms.kl import k1
from rlhf.config import RolloutConfig
from rlhf.data.records import Example
from rlhf.metrics import Mean, Metric
from rlhf.models.average import Average
from rlhf.rewards.interface import Reward
from rlhf.rewards.model import brought_reward
from rlhf.rewards.scale import Scale
from rlhf.stages.answers import Answers, answer, plain_sampling
from rlhf.stages.batches import Tokens
from rlhf.stages.examples import in_groups, in_turns
from rlhf.stages.interface import Evaluation, Setting
from rlhf.stages.paired import best_of_gains, gold_gains, reward_gain
from rlhf.stages.policies import Policies


class Exam:
    """Compares the policy's answers with those of the policy it started from."""

    def __init__(
        self,
        setting: Setting,
        policies: Policies,
        reward: Reward | None,
        scale: Scale,
        held_out: Sequence[Example],
        sampling: RolloutConfig,
    ) -> None:
        """Choose the prompts.

        Args:
            reward: what scores the answers; None: nothing does, and only what is known of them without it is measured.
            scale: on which scores are told.
            held_out: prompts, of which `evaluation.prompts` are taken.
            sampling: how they are answered.
        """
        self._setting, self._run, self._policies, self._reward, self._scale = setting, setting.run, policies, reward, scale
        count = setting.run.evaluation.prompts
        self._examples = [held_out[index] for index in in_turns(held_out, count)[:count]]
        self._sampling = sampling
        self._before: Answers | None = None
        self._scores_before: Tensor | None = None
        self._disagreement_before: dict[str, Metric] = {}
        self._perplexity_before = Mean(0.0, 0)

    @torch.no_grad()
    def take(self, average: Average | None, first: bool) -> Evaluation:
        """Answers, scores and gains of the policy and, as `ema/...`, of its running average.

        Args:
            first: whether nothing has been learnt yet, so that the policy still is the one it starts from.
        """
        before = self._sit_first()
        answers = before if first else self._answer(self._policies.policy)
        kl, perplexity = self._against_reference(answers)
        metrics: dict[str, Metric] = {
            "eval/kl": kl,
            "eval/reference_perplexity": perplexity,
            "eval/reference_perplexity_sft": self._perplexity_before,
            **{f"{name}_sft": before.metrics()[name] for name in ("response/repetition", "response/distinct_2")},
        }
        columns: dict[str, Sequence[float | str]] = {"sft_response": before.texts}
        spread = {"gold": answers.gold} if answers.gold else {}
        scores, disagreements = self._score(answers)
        metrics |= disagreements | {f"{name}_sft": each for name, each in self._disagreement_before.items()}
        if scores is not None and self._scores_before is not None:
            metrics |= {"eval/score_mean": Mean.of(self._scale(scores)), "eval/score_raw": Mean.of(scores)}
            columns |= {"score": scores.tolist(), "sft_score": self._scores_before.tolist()}
            spread |= {"score": self._scale(scores).tolist()}
        metrics |= self._gains(answers, before, scores)
        if average is not None and average.weights:
            metrics |= self._of_average(average, before)
        limit = self._run.evaluation.samples
        shown = replace(answers, examples=answers.examples[:limit], texts=answers.texts[:limit])
        return Evaluation(answers.metrics() + metrics, shown.samples(**columns), spread)

    @torch.no_grad()
    def best_of(self, size: int) -> dict[str, Metric]:
        """What choosing among ``size`` answers of the policy it started from gains over one of them, without any training."""
        asked = [example for example in self._examples for _ in range(size)]
        with self._policies.reference() as start:
            answers = answer(self._setting, start, self._policies.tokenizer, asked, self._sampling, "best of n")
        scores, _ = self._score(answers)
        assert scores is not None, "something scores"
        gold = None if answers.gold is None else torch.tensor(answers.gold, dtype=torch.float64).view(-1, size)
        return best_of_gains(scores.cpu().view(-1, size), gold, self._scale.deviation)

    def _sit_first(self) -> Answers:
        """The answers of the policy it started from, sampled and scored once a process."""
        if self._before is None:
            with self._policies.reference() as start:
                self._before = self._answer(start)
            self._scores_before, self._disagreement_before = self._score(self._before)
            _, self._perplexity_before = self._against_reference(self._before)
        return self._before

    def _of_average(self, average: Average, before: Answers) -> dict[str, Metric]:
        with average.swapped_in():
            answers = self._answer(self._policies.policy)
        gained = self._gains(answers, before, self._score(answers)[0])
        return {f"ema/{name}": metric for name, metric in (answers.metrics() + gained).items()}

    def _gains(self, answers: Answers, before: Answers, scores: Tensor | None) -> dict[str, Metric]:
        gained = gold_gains(answers, before, scores)
        if scores is not None and self._scores_before is not None:
            gained |= reward_gain(scores, self._scores_before, self._scale.deviation)
        return gained

    def _answer(self, policy: PreTrainedModel) -> Answers:
        return answer(self._setting, policy, self._policies.tokenizer, self._examples, self._sampling, "evaluation")

    def _score(self, answers: Answers) -> tuple[Tensor | None, dict[str, Metric]]:
        """Raw scores [N], where something scores, and how far several reward models disagree about them."""
        if self._reward is None:
            return None, {}
        raw = self._reward.score(answers.examples, answers.texts, answers.tokens)
        if raw.dim() == 1:
            return raw, {}
        told = {"eval/disagreement": Mean.of(disagreement(raw) / self._scale.deviation)}
        return pessimistic(raw, self._run.reward), {**told}

    def _against_reference(self, answers: Answers) -> tuple[Mean, Mean]:
        """Of ``answers``: KL of the policy to the reference in nats an answer, and the reference's perplexity."""

        def sums(rows: Sequence[Tokens]) -> tuple[Mean, Mean]:
            padded = self._policies.pad(rows)
            logprobs, reference = self._policies.logprobs(padded)[0], self._policies.reference_logprobs(padded)
            return Mean.of((k1(logprobs, reference) * padded.targets).sum(1)), Mean.of(-reference, padded.targets)

        groups = in_groups(answers.tokens, self._run.evaluation.micro_batch_size)
        parts = self._setting.engine.spread(list(groups), sums)
        kl, loss = (sum((part[which] for part in parts), Mean(0.0, 0)) for which in (0, 1))
        return kl, Mean(math.exp(min(loss.value, 700.0)), 1)


def plain_exam(setting: Setting, policies: Policies, held_out: Sequence[Example], max_length: int) -> Exam:
    """For a policy that samples nothing while it trains: raw scores by `evaluation.reward_model`, if one is named."""
    limit, reward = setting.run.evaluation, None
    if limit.reward_model is not None:
        engine, size = setting.engine, limit.micro_batch_size
        reward = brought_reward(limit.reward_model, policies.tokenizer, max_length, engine, size)
    return Exam(setting, policies, reward, Scale(), held_out, plain_sampling(limit, max_length))
