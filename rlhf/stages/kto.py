"""Prospect-theoretic optimisation: the policy learns from single answers that were called good or bad.

With h = log pi(answer) - log pi_ref(answer), the end token included (Ethayarajh et al. 2024, equations 6 and 7):

    loss  = mean over answers of  desirable_weight   * (1 - sigmoid(beta (h - z)))    of a good answer
                                  undesirable_weight * (1 - sigmoid(beta (z - h)))    of a bad one
    z     = max(0, mean over the batch of log pi(y' | x) - log pi_ref(y' | x)), without a gradient

The reference point z is what an answer must be beyond to count as a gain. It stands for the KL to the reference: y' is the
answer of the next row with another prompt, so no pair of x and y' was judged. It belongs to the whole batch of an optimizer
step, over all ranks, and is worked out before its first micro-batch: a z of each micro-batch, as in TRL, would hang on
their size. `kto.reference_point=zero` leaves it out (APO-zero on single answers, D'Oosterlinck et al. 2024).

Pairs and ranked lists are taken apart: the best answer is good, the worst is bad. All answers are shuffled, so the two of a
pair seldom meet in a batch. The reference is the policy as it started, frozen; with adapters it is the policy itself with
them off. There is no dropout, so z and h are 0 at the first step and the loss is half the weights.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.prospect import kto_loss
from rlhf.config import DPOInit, ReferencePoint
from rlhf.data.labels import apart, ends_of, labelled
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.lineage import READS
from rlhf.metrics import Mean, Metric, Metrics, Total
from rlhf.models.tokenizer import load_tokenizer
from rlhf.stages import signs
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.comparison import cheap_scorers, ends, ordering, right, separation
from rlhf.stages.exam import plain_exam
from rlhf.stages.examples import epoch_batches, in_groups, in_turns, rows_per_epoch, tokenizer_texts, tokens_of, total_steps
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stages.labelled import Answer, Labelled, mismatched
from rlhf.stages.policies import Policies, recompute
from rlhf.stages.shown import examples_shown


class KTO(Stage[Labelled]):
    """A policy and a frozen copy of where it started."""

    reads = READS["kto"]
    makes = "policy"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.kto
        config, whole = self._config, setting.corpus
        start = None if config.init is DPOInit.base else setting.parents[config.init.name]
        self._tokenizer = load_tokenizer(self._run.model, tokenizer_texts(whole), start)
        self._corpus = labelled(whole, config.good_from)
        examples = self._corpus.examples("rm", "train")
        self._rows = self._answers(examples)
        self.notes = self._about_labels()
        shown = [row and [(sum(row.tokens, []), [(len(row.tokens[0]), sum(map(len, row.tokens)))])] for row in self._rows]
        labels = ["good" if example.rating else "bad" for example in examples]
        self.notes += examples_shown(self._tokenizer, self._corpus, "rm", self._run.seed, shown, labels)
        self._policies = Policies(setting, self._tokenizer, start, config.reference_device)
        if config.gradient_checkpointing:
            recompute(self._policies.policy)
        epoch = rows_per_epoch(self._corpus, "rm", self._run.seed, self._rows)
        self.rounds = total_steps(config, "kto", epoch)
        self.rounds_per_epoch, self.eval_every_epoch = Fraction(epoch, config.batch_size), config.eval_every_epoch
        self.micro_batch_size = config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = config.log_every, config.eval_every, config.save_every
        self._cheap: dict[str, Metric] = {}
        self._exam = plain_exam(setting, self._policies, whole.examples("rm", "held_out"), config.max_length)
        setting.engine.prepare(self.trainable())

    def trainable(self) -> dict[str, Trainable]:
        """The policy."""
        spec = OptimizerSpec.of(self._config, self._config.learning_rate, self.rounds)
        return {"policy": Trainable(self._policies.policy, spec)}

    # data

    def batches(self, first_round: int) -> Iterator[list[Labelled]]:
        """One batch of answers a step, with its reference point, which is that of the policy when the batch is asked for."""
        config = self._config
        for rows in epoch_batches(self._corpus, "rm", self._run.seed, self._rows, config.batch_size, first_round):
            with self._setting.engine.phase("score"):
                point = self.reference_point([row.tokens for row in rows], self.micro_batch_size)
            yield [self._batch(rows, point)]

    def _batch(self, rows: Sequence[Answer], point: float) -> Labelled:
        own = [row.tokens for row in rows]
        met = [pair in own for pair in self._met(own)]
        told: dict[str, Metric] = {"kto/reference_point": Mean(point, 1)}
        if met:
            told["signs/own_answers"] = Mean(sum(met), len(met))
        return Labelled.of(rows, point, self._tokenizer.pad_token_id, self._setting.engine.device, Metrics(told))

    def _answers(self, examples: Sequence[Example]) -> list[Answer | None]:
        """The answer of each example; None where it does not fit."""
        texts = [[example.response or ""] for example in examples]
        rows = tokens_of(self._tokenizer, examples, texts, self._config.max_length, self._setting.token_cache)
        both = zip(examples, rows, strict=True)
        return [None if row is None else Answer(row[0], bool(example.rating)) for example, row in both]

    def _about_labels(self) -> list[str]:
        """How many answers are good and bad, and how they weigh."""
        config, usable = self._config, [row for row in self._rows if row is not None]
        left_out, good = len(self._rows) - len(usable), sum(row.good for row in usable)
        bad = len(usable) - good
        notes = [f"{left_out} of {len(self._rows)} answers do not fit kto.max_length"] if left_out else []
        if good and bad and config.undesirable_weight:
            weighed = f"{config.desirable_weight * good / (config.undesirable_weight * bad):.2f} : 1"
            notes.append(f"{good} good answers and {bad} bad ones, which weigh {weighed} (1 to 4/3 is advised)")
        return notes

    # loss

    @torch.no_grad()
    def reference_point(self, rows: Sequence[Tokens], size: int) -> float:
        """The reference point of ``rows``, worked out by all ranks, ``size`` rows at once. Every rank must call it."""
        if self._config.reference_point is ReferencePoint.zero:
            return 0.0
        pairs = self._met(rows)
        groups = list(in_groups(pairs, size))
        parts = self._setting.engine.spread(groups, self._log_ratios) if groups else []
        return max(0.0, sum(map(sum, parts)) / max(1, len(pairs)))

    def _met(self, rows: Sequence[Tokens]) -> list[Tokens]:
        """Prompts of ``rows`` with answers to others, by which the reference point is estimated."""
        return mismatched(rows, self._config.max_length, self._tokenizer.bos_token_id)

    def _log_ratios(self, rows: Sequence[Tokens]) -> list[float]:
        """Of the policy to its reference, of each of ``rows``."""
        padded = Sequences.of(rows, self._tokenizer.pad_token_id, self._setting.engine.device)
        said = self._policies.logprobs(padded)[0] - self._policies.reference_logprobs(padded)
        ratios: list[float] = said.double().sum(1).tolist()
        return ratios

    def loss(self, batch: Labelled) -> tuple[dict[str, Tensor], Metrics]:
        """Summed loss of the answers."""
        config, answers, good = self._config, batch.answers, batch.good
        reference = self._policies.reference_logprobs(answers)
        logprobs, entropies = self._policies.logprobs(answers)
        ratios = (logprobs - reference).sum(1)
        loss = self._loss(ratios, good, batch.point)
        told, whole = ratios.detach(), logprobs.detach().sum(1)
        point = torch.full_like(told, batch.point)
        metrics: dict[str, Metric] = {
            "rewards/accuracies": Mean.of(right(torch.where(good, told, point), torch.where(good, point, told))),
            "kto/good": Mean.of(good.float()),
            "policy/entropy": Mean.of(entropies, answers.targets),
            "perf/tokens": Total(answers.mask.sum().item()),
            **signs.of_demonstrations(answers, self._tokenizer),
        }
        for name, mine in (("chosen", good), ("rejected", ~good)):
            if mine.any():
                metrics |= {f"rewards/{name}": Mean.of(config.beta * told, mine), f"logps/{name}": Mean.of(whole, mine)}
        return {"policy": loss}, Metrics(metrics)

    def _loss(self, ratios: Tensor, good: Tensor, point: float) -> Tensor:
        config = self._config
        return kto_loss(ratios, good, point, config.beta, config.desirable_weight, config.undesirable_weight)

    # evaluate

    @torch.no_grad()
    def evaluate(self, round_: int) -> Evaluation:
        """Loss and order of held-out answers, and what the policy itself says to their prompts, beside where it started."""
        limit, held_out = self._run.evaluation, self._setting.corpus.examples("rm", "held_out")
        asked = [held_out[index] for index in in_turns(held_out, limit.examples)]
        several = [apart(example, self._config.good_from) for example in asked]
        rows = self._answers([each for answers in several for each in answers])
        fit = [row for row in rows if row is not None]
        tokens, size = [row.tokens for row in fit], limit.micro_batch_size
        point = self.reference_point(tokens, size)
        parts = self._setting.engine.spread(list(in_groups(tokens, size)), self._log_ratios)
        ratios, good = torch.tensor([each for part in parts for each in part]), torch.tensor([row.good for row in fit])
        rewards = self._config.beta * ratios
        metrics: dict[str, Metric] = {"eval/loss": Mean(self._loss(ratios, good, point).item(), len(fit))}
        if good.any() and not good.all():
            metrics["eval/auc"] = Mean(separation(rewards[good], rewards[~good]), 1)
        told = iter(rewards.tolist())
        each = iter([None if row is None else next(told) for row in rows])
        scored = [(example, [next(each) for _ in answers]) for example, answers in zip(asked, several, strict=True)]
        compared = [(example, [score for score in scores if score is not None]) for example, scores in scored]
        compared = [(ends_of(example), scores) for example, scores in compared if len(scores) > 1]
        spread = {"good": rewards[good].tolist(), "bad": rewards[~good].tolist()}
        if compared:
            examples, orders = [example for example, _ in compared], [scores for _, scores in compared]
            self._cheap = self._cheap or cheap_scorers(self._setting.corpus.examples("rm", "train"), examples)
            metrics |= ordering(examples, orders) | self._cheap
            spread = {name: side.tolist() for name, side in zip(("chosen", "rejected"), ends(orders), strict=True)}
        own = self._exam.take(None, first=round_ == 0)
        return Evaluation(own.metrics + metrics, own.samples, own.scores | spread)

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policies.policy, self._tokenizer
