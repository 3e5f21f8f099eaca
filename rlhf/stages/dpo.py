"""Direct preference optimisation: the policy learns from pairs, without a reward model.

For each pair of a better and a worse answer, with log pi the log-probability of an answer's tokens, its end token included:

    h = (log pi(better) - log pi_ref(better)) - (log pi(worse) - log pi_ref(worse))

    sigmoid   - log sigmoid(beta h)                                                     (Rafailov et al. 2023, equation 7)
              with label smoothing e: - (1 - e) log sigmoid(beta h) - e log sigmoid(- beta h)             (Mitchell 2023)
    ipo       (h - 1 / (2 beta))^2                                                         (Azar et al. 2024, equation 17)
    simpo     - log sigmoid(beta (m(better) - m(worse)) - margin)                           (Meng et al. 2024, equation 6)
    orpo      - m(better) + beta * - log sigmoid(log odds(better) - log odds(worse))      (Hong et al. 2024, equations 6, 7)

m is the mean log-probability a token, and the odds are p / (1 - p) with p = exp(m). `dpo.sft_coef` adds - m(better) to the
first three (Pang et al. 2024); `dpo.likelihood` says over what - m is a mean. All pairs of a ranked list of K answers count,
each with 1 / (K choose 2); - m is of the best.

The reference is the policy as it started, frozen; with adapters it is the policy itself with them off. There is no dropout,
so h is 0 at the first step. What the policy prefers shows in its implicit reward, beta (log pi - log pi_ref); `orpo` and
`simpo`, which have no reference in their loss, are judged by beta * m.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.preference import dpo_loss, ipo_loss, odds_ratio_loss, simpo_loss
from rlhf.config import DPOInit, DPOLoss, Likelihood
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.engine.placement import AUTO, CPU
from rlhf.lineage import READS
from rlhf.metrics import Mean, Metric, Metrics, Total
from rlhf.models.tokenizer import load_tokenizer
from rlhf.stages import signs
from rlhf.stages.batches import Comparisons, Ranked
from rlhf.stages.comparison import cheap_scorers, ends, marked, ordering, ranked, right
from rlhf.stages.exam import plain_exam
from rlhf.stages.examples import epoch_batches, in_groups, in_turns, rows_per_epoch, tokenizer_texts, total_steps
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stages.policies import Policies, recompute
from rlhf.stages.shown import examples_shown

REFERENCE_FREE = (DPOLoss.orpo, DPOLoss.simpo)


class Weighed(NamedTuple):
    """What the policy makes of a batch of comparisons with N answers."""

    loss: Tensor  # summed over prompts
    rewards: Tensor  # [N] implicit
    logprobs: Tensor  # [N] of whole answers
    likelihood: Tensor  # negative log-likelihood a token of the best answers, summed over prompts
    entropy: Mean


class DPO(Stage[Comparisons]):
    """A policy and a frozen copy of where it started."""

    reads = READS["dpo"]
    makes = "policy"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.dpo
        config, corpus = self._config, setting.corpus
        start = None if config.init is DPOInit.base else setting.parents[config.init.name]
        self._tokenizer = load_tokenizer(self._run.model, tokenizer_texts(corpus), start)
        examples = corpus.examples("rm", "train")
        self._rows = self._ranked(examples)
        count = self._rows.count(None)
        why = "do not fit dpo.max_length, or have no other answer, or an equal one"
        self.notes = [f"{count} of {len(examples)} rows {why}"] if count else []
        self.notes += examples_shown(self._tokenizer, corpus, "rm", self._run.seed, [marked(row) for row in self._rows])
        where = config.reference_device
        if where == AUTO and config.loss in REFERENCE_FREE:
            where = CPU  # only evaluations ask it
        self._policies = Policies(setting, self._tokenizer, start, where)
        if config.gradient_checkpointing:
            recompute(self._policies.policy)
        epoch = rows_per_epoch(corpus, "rm", self._run.seed, self._rows)
        self.rounds = total_steps(config, "dpo", epoch)
        self.rounds_per_epoch, self.eval_every_epoch = Fraction(epoch, config.batch_size), config.eval_every_epoch
        self.micro_batch_size = config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = config.log_every, config.eval_every, config.save_every
        self._cheap: dict[str, Metric] = {}
        self._exam = plain_exam(setting, self._policies, corpus.examples("rm", "held_out"), config.max_length)
        setting.engine.prepare(self.trainable())

    def trainable(self) -> dict[str, Trainable]:
        """The policy."""
        spec = OptimizerSpec.of(self._config, self._config.learning_rate, self.rounds)
        return {"policy": Trainable(self._policies.policy, spec)}

    # data

    def batches(self, first_round: int) -> Iterator[list[Comparisons]]:
        """One batch of prompts with their answers a step."""
        corpus, size = self._setting.corpus, self._config.batch_size
        for rows in epoch_batches(corpus, "rm", self._run.seed, self._rows, size, first_round):
            yield [self._batch(rows)]

    def _batch(self, rows: Sequence[Ranked]) -> Comparisons:
        batch = Comparisons(rows, self._tokenizer.pad_token_id, self._setting.engine.device)
        prompts = self._config.likelihood is Likelihood.all  # the first token of one follows nothing
        tokens = [len(response) + prompts * (len(prompt) - 1) for prompt, response in (row.answers[0] for row in rows)]
        return replace(batch, likelihood_scale=len(rows) / sum(tokens))

    def _ranked(self, examples: Sequence[Example]) -> list[Ranked | None]:
        return ranked(self._tokenizer, examples, self._config.max_length, self._setting.token_cache)

    # loss

    def loss(self, batch: Comparisons) -> tuple[dict[str, Tensor], Metrics]:
        """Summed loss of each prompt."""
        weighed = self._weigh(batch)
        better, worse, _ = batch.pairs
        rewards, logprobs = weighed.rewards.detach(), weighed.logprobs.detach()
        metrics: dict[str, Metric] = {
            "rewards/accuracies": Mean.of(right(rewards[better], rewards[worse])),
            "rewards/margins": Mean.of(rewards[better] - rewards[worse]),
            "rewards/chosen": Mean.of(rewards[better]),
            "rewards/rejected": Mean.of(rewards[worse]),
            "logps/chosen": Mean.of(logprobs[better]),
            "logps/rejected": Mean.of(logprobs[worse]),
            "loss/sft_avg": Mean(weighed.likelihood.item(), batch.weight),
            "policy/entropy": weighed.entropy,
            "perf/tokens": Total(batch.answers.mask.sum().item()),
            **signs.of_demonstrations(batch.answers, self._tokenizer),
            **signs.of_ties(logprobs[better], logprobs[worse]),
        }
        return {"policy": weighed.loss}, Metrics(metrics)

    def _weigh(self, batch: Comparisons) -> Weighed:
        config, answers = self._config, batch.answers
        better, worse, share = batch.pairs
        reference_free = config.loss in REFERENCE_FREE
        reference_BT = 0.0 if reference_free else self._policies.reference_logprobs(answers)
        best, learnt = batch.ranks == 0, answers.targets
        if config.likelihood is Likelihood.all:
            learnt = learnt | (answers.mask & best[:, None] & (torch.arange(answers.ids.shape[1], device=best.device) > 0))
        told_BT, entropies = self._policies.logprobs(replace(answers, targets=learnt))
        logprobs_BT = told_BT.masked_fill(~answers.targets, 0.0)
        lengths = answers.targets.sum(1)
        mean = logprobs_BT.sum(1) / lengths
        by_answer = config.likelihood is Likelihood.answers
        likelihood = -mean[best].sum() if by_answer else -batch.likelihood_scale * told_BT[best].sum()
        if reference_free:
            said = mean
        else:
            said = (logprobs_BT - reference_BT).sum(1)
            said = said / lengths if config.average_logprobs else said
        margin = said[better] - said[worse]
        match config.loss:
            case DPOLoss.sigmoid:
                loss = dpo_loss(margin, share, config.beta, config.label_smoothing)
            case DPOLoss.ipo:
                loss = ipo_loss(margin, share, config.beta)
            case DPOLoss.simpo:
                loss = simpo_loss(said[better], said[worse], share, config.beta, config.margin)
            case DPOLoss.orpo:
                loss = likelihood + config.beta * odds_ratio_loss(said[better], said[worse], share)
        if config.loss is not DPOLoss.orpo and config.sft_coef:
            loss = loss + config.sft_coef * likelihood
        entropy = Mean.of(entropies, answers.targets)
        return Weighed(loss, config.beta * said, logprobs_BT.sum(1), likelihood, entropy)

    # evaluate

    @torch.no_grad()
    def evaluate(self, round_: int) -> Evaluation:
        """Loss and order of held-out answers, and what the policy itself says to their prompts, beside where it started."""
        limit, held_out = self._run.evaluation, self._setting.corpus.examples("rm", "held_out")
        fit = [(example, row) for example, row in zip(held_out, self._ranked(held_out), strict=True) if row is not None]
        usable = [fit[index] for index in in_turns([example for example, _ in fit], limit.examples)]
        groups = list(in_groups([row for _, row in usable], limit.micro_batch_size))
        parts = self._setting.engine.spread(groups, self._held_out)
        loss = sum((part[0] for part in parts), Mean(0.0, 0))
        orders = [order for part in parts for order in part[1]]
        examples = [example for example, _ in usable]
        self._cheap = self._cheap or cheap_scorers(self._setting.corpus.examples("rm", "train"), examples)
        chosen, rejected = ends(orders)
        own = self._exam.take(None, first=round_ == 0)
        metrics = {"eval/loss": loss} | ordering(examples, orders) | self._cheap
        spread = {"chosen": chosen.tolist(), "rejected": rejected.tolist()}
        return Evaluation(own.metrics + metrics, own.samples, own.scores | spread)

    def _held_out(self, rows: Sequence[Ranked]) -> tuple[Mean, list[list[float]]]:
        """Their loss, and the implicit rewards of each row's answers, best first."""
        batch = self._batch(rows)
        weighed = self._weigh(batch)
        orders: list[list[float]] = [[] for _ in rows]
        for prompt, reward in zip(batch.prompts.tolist(), weighed.rewards.tolist(), strict=True):  # in the order of ranks
            orders[prompt].append(reward)
        return Mean(weighed.loss.item(), batch.weight), orders

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policies.policy, self._tokenizer
