"""Reward model.

    loss = - mean over pairs of log sigmoid(r(prompt, chosen) - r(prompt, rejected))      (Ouyang et al. 2022, equation 1)
           + score_l2 * mean over pairs of (r(prompt, chosen)^2 + r(prompt, rejected)^2) / 2

`rm.loss=tokenwise` takes the first term at every token from where the answers part, and averages over these tokens.

r is a linear head, without bias, on the hidden state of the last true token: the end token, which every response has in
training (in PPO a response may be cut off; it is then read at its last token, and `ppo.missing_eos_penalty` applies).
The index comes from the attention mask, so padding may stand on either side. Pairs whose token ids are equal are passed
over, since their gradient is exactly zero.
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.losses import pairwise_loss, squared_scores, tokenwise_loss
from rlhf.algorithms.masks import diverging_span, hold_last
from rlhf.config import RewardModelLoss
from rlhf.data.baselines import bag_of_words_accuracy, bayes_accuracy, longer_wins_accuracy, wilson_interval
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.metrics import Mean, Metric, Metrics, Total
from rlhf.models.adapters import add_adapters
from rlhf.models.forward import token_scores
from rlhf.models.load import load_scorer
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.model import last_scores, score
from rlhf.stages.batches import Pairs, Sequences, Tokens
from rlhf.stages.examples import epoch_batches, in_turns, tokenizer_texts, tokens_of, total_steps
from rlhf.stages.interface import Evaluation, Setting, Stage

TokenPair = tuple[Tokens, Tokens]


class RewardModel(Stage[Pairs]):
    """A scorer trained on preferences."""

    reads: tuple[str, ...] = ("seed", "reward_model", "data", "reward_lora", "rm", "evaluation")
    makes = "reward_model"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.rm
        start = setting.parents.get("sft")
        texts = tokenizer_texts(setting.corpus)
        self._tokenizer = load_tokenizer(self._run.reward_model, texts, start)
        examples = setting.corpus.examples("rm", "train")
        self._rows = self._tokens(examples)
        left_out = self._rows.count(None)
        self.notes = [f"{left_out} of {len(examples)} pairs do not fit rm.max_length, or are equal"] if left_out else []
        self._scorer = load_scorer(self._run.reward_model, self._tokenizer, start, self._run.seed, fresh_head=True)
        add_adapters(self._scorer, self._run.reward_lora, "reward_lora", self._run.seed, keep=["score"])
        if self._config.gradient_checkpointing:
            self._scorer.gradient_checkpointing_enable()
        self._scorer.train()
        setting.engine.place(self._scorer)
        self.rounds = total_steps(self._config, setting.corpus, "rm", self._run.seed, self._rows)
        self.micro_batch_size = self._config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = (
            self._config.log_every,
            self._config.eval_every,
            self._config.save_every,
        )
        setting.engine.prepare(self.trainable())

    def trainable(self) -> dict[str, Trainable]:
        """Trunk and head."""
        return {
            "reward_model": Trainable(self._scorer, OptimizerSpec.of(self._config, self._config.learning_rate, self.rounds))
        }

    # data

    def batches(self, first_round: int) -> Iterator[list[Pairs]]:
        """One batch of pairs a step."""
        corpus, seed, size = self._setting.corpus, self._run.seed, self._config.batch_size
        for rows in epoch_batches(corpus, "rm", seed, self._rows, size, first_round):
            yield [self._pairs(rows)]

    def _pairs(self, rows: list[TokenPair]) -> Pairs:
        device, pad = self._setting.engine.device, self._tokenizer.pad_token_id
        chosen, rejected = ([pair[side] for pair in rows] for side in (0, 1))
        return Pairs(Sequences.of(chosen, pad, device), Sequences.of(rejected, pad, device))

    def _tokens(self, examples: list[Example]) -> list[TokenPair | None]:
        """Both answers of each example; None where one does not fit, or where they are equal and would teach nothing."""
        answers = [[example.response or "", example.rejected or ""] for example in examples]
        rows = tokens_of(self._tokenizer, examples, answers, self._config.max_length)
        return [(row[0], row[1]) if row is not None and row[0] != row[1] else None for row in rows]

    # loss

    def loss(self, batch: Pairs) -> tuple[dict[str, Tensor], Metrics]:
        """Summed pairwise or token-wise loss, and squared scores."""
        both = batch.joined()
        scores_BT = self._setting.engine.forward(token_scores, self._scorer, both.ids, both.mask)
        chosen, rejected = last_scores(scores_BT, both.mask).chunk(2)
        match self._config.loss:
            case RewardModelLoss.pairwise:
                loss = pairwise_loss(chosen, rejected)
            case RewardModelLoss.tokenwise:
                chosen_BT, rejected_BT = hold_last(scores_BT, both.mask).chunk(2)
                loss = tokenwise_loss(chosen_BT, rejected_BT, diverging_span(*both.ids.chunk(2), *both.mask.chunk(2)))
        loss = loss + self._config.score_l2 * squared_scores(chosen, rejected)
        metrics: dict[str, Metric] = {
            "rewards/accuracies": Mean.of(_right(chosen, rejected)),
            "rewards/margins": Mean.of(chosen - rejected),
            "rewards/chosen": Mean.of(chosen),
            "rewards/rejected": Mean.of(rejected),
            "perf/tokens": Total(both.mask.sum().item()),
        }
        return {"reward_model": loss}, Metrics(metrics)

    # evaluate

    def evaluate(self, round_: int) -> Evaluation:
        """Accuracy on held-out pairs, for each source apart, beside what cheap scorers reach on the same pairs."""
        limit = self._run.evaluation
        held_out = self._setting.corpus.examples("rm", "held_out")
        fit = [(example, pair) for example, pair in zip(held_out, self._tokens(held_out), strict=True) if pair is not None]
        usable = [fit[index] for index in in_turns([example for example, _ in fit], limit.examples)]
        self._scorer.eval()
        pad, engine = self._tokenizer.pad_token_id, self._setting.engine
        chosen, rejected = (
            score(self._scorer, [pair[side] for _, pair in usable], pad, engine, limit.micro_batch_size) for side in (0, 1)
        )
        self._scorer.train()
        right = _right(chosen, rejected)
        examples = [example for example, _ in usable]
        metrics: dict[str, Metric] = {
            "eval/accuracy": Mean.of(right),
            "eval/loss": Mean.of(-torch.nn.functional.logsigmoid(chosen - rejected)),
            "rewards/margins": Mean.of(chosen - rejected),
        }
        metrics |= self._by_source(examples, right)
        if round_ == self.rounds:
            metrics |= self._cheap_scorers(examples)
        samples = [
            {"prompt": example.turns[-1].text, "chosen": example.response or "", "rejected": example.rejected or ""}
            | {"score_chosen": chosen[index].item(), "score_rejected": rejected[index].item()}
            for index, example in enumerate(examples[: limit.samples])
        ]
        return Evaluation(Metrics(metrics), samples, {"chosen": chosen.tolist(), "rejected": rejected.tolist()})

    def _by_source(self, examples: list[Example], right: Tensor) -> dict[str, Metric]:
        """Accuracy of each source with its 95 % interval, beside that of "the longer answer wins"."""
        places: dict[str, list[int]] = defaultdict(list)
        for index, example in enumerate(examples):
            places[example.source].append(index)
        metrics: dict[str, Metric] = {}
        for source, indices in places.items():
            low, high = wilson_interval(right[indices].sum().item(), len(indices))
            longer = longer_wins_accuracy([examples[index] for index in indices])
            metrics |= {
                f"eval/accuracy/{source}": Mean.of(right[indices]),
                f"eval/accuracy_low/{source}": Mean(low, 1),
                f"eval/accuracy_high/{source}": Mean(high, 1),
                f"eval/pairs/{source}": Total(len(indices)),
                f"baseline/longer_wins/{source}": Mean(longer.right, longer.total),
            }
        return metrics

    def _cheap_scorers(self, examples: list[Example]) -> dict[str, Metric]:
        """What length, a bag of words and, where it is known, the true reward reach on the same pairs."""
        longer = longer_wins_accuracy(examples)
        words = bag_of_words_accuracy(self._setting.corpus.examples("rm", "train"), examples)
        metrics: dict[str, Metric] = {
            "baseline/longer_wins": Mean(longer.right, longer.total),
            "baseline/bag_of_words": Mean(words.right, words.total),
        }
        if (bayes := bayes_accuracy(examples)) is not None:
            metrics["baseline/bayes"] = Mean(bayes, 1)
        return metrics

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The scorer and its tokenizer."""
        return self._scorer, self._tokenizer


def _right(chosen: Tensor, rejected: Tensor) -> Tensor:
    """1 where the chosen answer scores higher, 1/2 where both score the same, else 0."""
    return (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
