"""Reward model.

    loss = - mean over prompts of mean over pairs of log sigmoid(r(prompt, better) - r(prompt, worse))
                                                                                           (Ouyang et al. 2022, equation 1)
           + score_l2 * mean over prompts of mean over answers of r^2
           + center_coef * mean over prompts of mean over pairs of (r(better) + r(worse))^2     (Eisenstein et al. 2023)

All pairs of a ranked list of K answers count, each with 1 / (K choose 2); with two answers that is the pair. `rm.loss`:

    pairwise    the above
    tokenwise   its first term at every token from where the two answers part, averaged over these (DeepSpeed-Chat)
    margin      log sigmoid(r(better) - r(worse) - margin), margin being how much better people found it, 0 where unknown
                                                                                           (Touvron et al. 2023, equation 2)
    ce          cross-entropy of the best answer among all of the list: softmax over their scores; pairwise for two
    mse         squared error of r against the rating that people gave; takes answers one by one

r is a linear head, without bias, on the hidden state of the last true token: the end token, which every response has in
training (in PPO a response may be cut off; it is then read at its last token, and `ppo.missing_eos_penalty` applies).
`rm.pooling=mean` takes the mean over all tokens of prompt and response instead. The index comes from the attention mask,
so padding may stand on either side. Answers whose token ids are equal are passed over, since their gradient is zero.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.losses import best_of_list_loss, pairwise_loss, rating_loss, tokenwise_loss
from rlhf.algorithms.masks import diverging_span, hold_last
from rlhf.config import RewardModelLoss
from rlhf.data import demand
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.lineage import READS
from rlhf.metrics import Mean, Metric, Metrics, Total
from rlhf.models.adapters import add_adapters
from rlhf.models.forward import recompute_activations, token_scores
from rlhf.models.load import load_scorer
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.model import pooled_scores, score, set_pooling
from rlhf.stages import signs
from rlhf.stages.batches import Comparisons, Ranked
from rlhf.stages.comparison import cheap_scorers, ends, marked, ordering, ranked, right, samples
from rlhf.stages.examples import epoch_batches, in_turns, rows_per_epoch, tokenizer_texts, total_steps
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stages.shown import examples_shown


def seed_of_member(seed: int, member: int) -> int:
    """The seed of what differs between reward models that learn from the same pairs; the run's own for the first."""
    return seed + 1_000_003 * member


class RewardModel(Stage[Comparisons]):
    """A scorer trained on preferences."""

    reads = READS["rm"]
    makes = "reward_model"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.rm
        self._seed = seed_of_member(self._run.seed, self._config.member)
        start = setting.parents.get("sft")
        texts = tokenizer_texts(setting.corpus)
        self._tokenizer = load_tokenizer(self._run.reward_model, texts, start)
        examples = setting.corpus.examples("rm", "train")
        self._rows = self._ranked(examples)
        self.notes = self._left_out(examples)
        self.notes += examples_shown(self._tokenizer, setting.corpus, "rm", self._run.seed, [marked(row) for row in self._rows])
        self._scorer = load_scorer(self._run.reward_model, self._tokenizer, start, self._seed, fresh_head=True)
        set_pooling(self._scorer, self._config.pooling)
        add_adapters(self._scorer, self._run.reward_lora, "reward_lora", self._seed, keep=["score"])
        if self._config.gradient_checkpointing:
            recompute_activations(self._scorer)
        self._scorer.train()
        setting.engine.place(self._scorer)
        epoch = rows_per_epoch(setting.corpus, "rm", self._seed, self._rows)
        self.rounds = total_steps(self._config, "rm", epoch)
        self.rounds_per_epoch = Fraction(epoch, self._config.batch_size)
        self.eval_every_epoch = self._config.eval_every_epoch
        self.micro_batch_size = self._config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = (
            self._config.log_every,
            self._config.eval_every,
            self._config.save_every,
        )
        self._cheap: dict[str, Metric] = {}
        setting.engine.prepare(self.trainable())

    def trainable(self) -> dict[str, Trainable]:
        """Trunk and head."""
        return {
            "reward_model": Trainable(self._scorer, OptimizerSpec.of(self._config, self._config.learning_rate, self.rounds))
        }

    # data

    def batches(self, first_round: int) -> Iterator[list[Comparisons]]:
        """One batch of prompts with their answers a step."""
        corpus, size = self._setting.corpus, self._config.batch_size
        for rows in epoch_batches(corpus, "rm", self._seed, self._rows, size, first_round):
            yield [Comparisons(rows, self._tokenizer.pad_token_id, self._setting.engine.device)]

    def _ranked(self, examples: Sequence[Example]) -> list[Ranked | None]:
        config = self._config
        rated = config.loss is RewardModelLoss.mse
        return ranked(self._tokenizer, examples, config.max_length, self._setting.token_cache, rated)

    def _left_out(self, examples: Sequence[Example]) -> list[str]:
        """What is to be said of rows that cannot be used.

        Raises:
            Fault: `rm.loss` needs what no row has.
        """
        loss = self._config.loss
        demand.see_comparisons(loss, examples)
        count = self._rows.count(None)
        why = "have no rating" if loss is RewardModelLoss.mse else "have no other answer, or an equal one"
        return [f"{count} of {len(examples)} rows do not fit rm.max_length, or {why}"] if count else []

    # loss

    def loss(self, batch: Comparisons) -> tuple[dict[str, Tensor], Metrics]:
        """Summed loss of each prompt, and squared scores."""
        config, answers = self._config, batch.answers
        scores_BT = self._setting.engine.forward(token_scores, self._scorer, answers.ids, answers.mask)
        scores = pooled_scores(self._scorer, scores_BT, answers.mask)
        better, worse, share = batch.pairs
        match config.loss:
            case RewardModelLoss.pairwise:
                loss = pairwise_loss(scores[better], scores[worse], share)
            case RewardModelLoss.margin:
                loss = pairwise_loss(scores[better] - batch.margins, scores[worse], share)
            case RewardModelLoss.tokenwise:
                held_BT = hold_last(scores_BT, answers.mask)
                span = diverging_span(answers.ids[better], answers.ids[worse], answers.mask[better], answers.mask[worse])
                loss = tokenwise_loss(held_BT[better], held_BT[worse], span, share)
            case RewardModelLoss.ce:
                loss = best_of_list_loss(scores, batch.prompts, batch.ranks)
            case RewardModelLoss.mse:
                loss = rating_loss(scores, batch.ratings, batch.shares)
        loss = loss + config.score_l2 * (batch.shares * scores.square()).sum()
        loss = loss + config.center_coef * (share * (scores[better] + scores[worse]).square()).sum()
        metrics: dict[str, Metric] = {"perf/tokens": Total(answers.mask.sum().item())}
        metrics |= signs.of_demonstrations(answers, self._tokenizer)
        if len(better):
            metrics |= {
                "rewards/accuracies": Mean.of(right(scores[better], scores[worse])),
                "rewards/margins": Mean.of(scores[better] - scores[worse]),
                "rewards/chosen": Mean.of(scores[better]),
                "rewards/rejected": Mean.of(scores[worse]),
                **signs.of_ties(scores[better], scores[worse]),
            }
        return {"reward_model": loss}, Metrics(metrics)

    # evaluate

    def evaluate(self, round_: int) -> Evaluation:
        """Accuracy on held-out answers, best against worst, for each source apart, beside what cheap scorers reach."""
        limit, held_out = self._run.evaluation, self._setting.corpus.examples("rm", "held_out")
        fit = [(example, row) for example, row in zip(held_out, self._ranked(held_out), strict=True) if row is not None]
        usable = [fit[index] for index in in_turns([example for example, _ in fit], limit.examples)]
        self._scorer.eval()
        pad, engine = self._tokenizer.pad_token_id, self._setting.engine
        answers = [answer for _, row in usable for answer in row.answers]
        together = score(self._scorer, answers, pad, engine, limit.micro_batch_size)
        alone = score(self._scorer, answers[: signs.PROBED], pad, engine, 1)
        flat = iter(together.tolist())
        self._scorer.train()
        scores = [[next(flat) for _ in row.answers] for _, row in usable]
        metrics = signs.of_padding(together[: len(alone)], alone, together.std(correction=0).item())
        rates = self._config.loss is RewardModelLoss.mse
        if rated := [(each, row.ratings) for each, (_, row) in zip(scores, usable, strict=True) if rates and row.ratings]:
            errors = [(got - wanted) ** 2 for each, ratings in rated for got, wanted in zip(each, ratings, strict=True)]
            metrics["eval/rating_mse"] = Mean(sum(errors), len(errors))
        compared = [(example, each) for (example, _), each in zip(usable, scores, strict=True) if len(each) > 1]
        if not compared:
            return Evaluation(Metrics(metrics | {"eval/loss": metrics["eval/rating_mse"]}))
        examples, orders = [example for example, _ in compared], [each for _, each in compared]
        chosen, rejected = ends(orders)
        metrics |= ordering(examples, orders)
        metrics["eval/loss"] = Mean.of(-torch.nn.functional.logsigmoid(chosen - rejected))
        # any evaluation may turn out to be the last; they do not change, so they are worked out once
        self._cheap = self._cheap or cheap_scorers(self._setting.corpus.examples("rm", "train"), examples)
        shown = samples(examples[: limit.samples], orders[: limit.samples])
        return Evaluation(Metrics(metrics | self._cheap), shown, {"chosen": chosen.tolist(), "rejected": rejected.tolist()})

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The scorer and its tokenizer."""
        return self._scorer, self._tokenizer
