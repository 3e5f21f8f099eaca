"""Supervised fine-tuning.

    loss = - sum over target tokens of log pi(token | what stands before it) / number of target tokens in the batch

`sft.targets`: the response alone (`response`; the prompt is context), all answers of the conversation, each with its end
token (`assistant_turns`), or everything (`all`). The end token of the response always is a target, padding never, but for
`sft.legacy_padding_loss`. With `sft.packing` the rows of a micro-batch share rows of the network, and everything outside of its
forward pass stays as it is. Every sequence is prompt, response, one end token, rendered by the same template that PPO
samples with.
"""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.algorithms.losses import sft_loss
from rlhf.data.records import Example
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.fault import Fault
from rlhf.lineage import READS
from rlhf.metrics import Mean, Metric, Metrics, Total
from rlhf.models import packable
from rlhf.models.adapters import add_adapters
from rlhf.models.forward import recompute_activations, token_logprobs
from rlhf.models.load import load_policy
from rlhf.models.packing import Packing
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.interface import Reward
from rlhf.rewards.model import brought_reward
from rlhf.stages import signs
from rlhf.stages.answers import answer, plain_sampling
from rlhf.stages.batches import Demonstration, Sequences, Tokens
from rlhf.stages.conversations import with_targets
from rlhf.stages.examples import epoch_batches, in_groups, in_turns, rows_per_epoch, tokenizer_texts, tokens_of, total_steps
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stages.shown import Marked, examples_shown


class SFT(Stage[Sequences]):
    """Supervised fine-tuning of the policy on demonstrations."""

    reads = READS["sft"]
    makes = "policy"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.sft
        corpus = setting.corpus
        start = setting.parents.get("pretrain")
        self._tokenizer = load_tokenizer(self._run.model, tokenizer_texts(corpus), start)
        examples = corpus.examples("sft", "train")
        tokens = self._tokens(examples)
        rows = self._rows = with_targets(self._tokenizer, examples, tokens, self._config.targets)
        left_out = tokens.count(None)
        self.notes = [f"{left_out} of {len(rows)} rows do not fit sft.max_length"] if left_out else []
        if joined := rows.count(None) - left_out:
            self.notes.append(f"{joined} of {len(rows)} rows are the beginnings of others, where their answers are learnt")
        self.notes += examples_shown(self._tokenizer, corpus, "sft", self._run.seed, [row and _marked(row) for row in rows])
        self._policy = load_policy(self._run.model, self._tokenizer, start, self._run.seed)
        if self._config.packing and (wrong := self._unpackable()) is not None:
            raise Fault(wrong)
        add_adapters(self._policy, self._run.lora, "lora", self._run.seed)
        if self._config.gradient_checkpointing:
            recompute_activations(self._policy)
        self._policy.train()
        setting.engine.place(self._policy)
        epoch = rows_per_epoch(corpus, "sft", self._run.seed, rows)
        self.rounds = total_steps(self._config, "sft", epoch)
        self.rounds_per_epoch = Fraction(epoch, self._config.batch_size)
        self.eval_every_epoch = self._config.eval_every_epoch
        self.micro_batch_size = self._config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = (
            self._config.log_every,
            self._config.eval_every,
            self._config.save_every,
        )
        self._reward = self._brought_reward()
        setting.engine.prepare(self.trainable())

    def trainable(self) -> dict[str, Trainable]:
        """The policy."""
        return {"policy": Trainable(self._policy, OptimizerSpec.of(self._config, self._config.learning_rate, self.rounds))}

    # data

    def batches(self, first_round: int) -> Iterator[list[Sequences]]:
        """One batch a step; rows too long for `sft.max_length` are passed over."""
        corpus, size = self._setting.corpus, self._config.batch_size
        for rows in epoch_batches(corpus, "sft", self._run.seed, self._rows, size, first_round):
            yield [self._batch(rows)]

    def _batch(self, rows: Sequence[Demonstration]) -> Sequences:
        batch = Sequences.demonstrated(rows, self._pad, self._setting.engine.device)
        legacy = self._config.legacy_padding_loss
        return batch.with_padding_learnt(self._pad, self._config.max_length) if legacy else batch

    def _tokens(self, examples: list[Example]) -> list[Tokens | None]:
        answers = [[example.response or ""] for example in examples]
        rows = tokens_of(self._tokenizer, examples, answers, self._config.max_length, self._setting.token_cache)
        return [row[0] if row is not None else None for row in rows]

    # loss

    def loss(self, batch: Sequences) -> tuple[dict[str, Tensor], Metrics]:
        """Summed negative log-likelihood of the targets."""
        packing = self._packing(batch)
        logprobs, entropies = self._logprobs(batch, packing)
        tokens, read = batch.mask.sum().item(), batch.mask.numel() if packing is None else math.prod(packing.shape)
        metrics: dict[str, Metric] = {
            "policy/entropy": Mean.of(entropies, batch.targets),
            "perf/tokens": Total(tokens),
            "perf/padding": Mean(read - tokens, read),
            **signs.of_demonstrations(batch, self._tokenizer),
        }
        return {"policy": sft_loss(logprobs, batch.targets)}, Metrics(metrics)

    def _logprobs(self, batch: Sequences, packing: Packing | None) -> tuple[Tensor, Tensor]:
        inputs = (batch.ids, batch.mask, batch.targets)
        return self._setting.engine.forward(token_logprobs, self._policy, *inputs, 1.0, False, self._run.fp32_loss, packing)

    def _packing(self, batch: Sequences) -> Packing | None:
        return Packing.of(batch.mask, self._config.max_length) if self._config.packing else None

    def _unpackable(self) -> str | None:
        config = self._policy.config
        window = getattr(config, "sliding_window", None)
        return packable.fault(self._run.model.name, config.model_type, self._config.max_length, window)

    # evaluate

    @torch.no_grad()
    def evaluate(self, round_: int) -> Evaluation:
        """Loss and perplexity of held-out responses, and a few sampled answers."""
        limit = self._run.evaluation
        held_out = self._setting.corpus.examples("sft", "held_out")
        fit = [(example, row) for example, row in zip(held_out, self._tokens(held_out), strict=True) if row is not None]
        usable = [fit[index] for index in in_turns([example for example, _ in fit], limit.examples)]
        groups = list(in_groups([row for _, row in usable], limit.micro_batch_size))
        self._policy.eval()
        losses = [each for part in self._setting.engine.spread(groups, self._held_out_losses) for each in part]
        loss = sum(losses, Mean(0.0, 0))
        alone = [self._held_out_losses([row])[0].value for _, row in usable[: signs.PROBED]]
        answered = answer(
            self._setting,
            self._policy,
            self._tokenizer,
            [example for example, _ in usable[: limit.samples]],
            plain_sampling(limit, self._config.max_length),
            "evaluation",
        )
        self._policy.train()
        metrics: dict[str, Metric] = {"eval/loss": loss, "eval/perplexity": Mean(math.exp(min(loss.value, 700.0)), 1)}
        spread = {"loss": [each.value for each in losses], "tokens": [each.count for each in losses]}
        each_loss = torch.tensor(spread["loss"])
        metrics |= signs.of_padding(each_loss[: len(alone)], torch.tensor(alone), each_loss.std(correction=0).item())
        columns = {}
        if self._reward is not None:
            scores = self._reward.score(answered.examples, answered.texts, answered.tokens)
            metrics["eval/score_mean"] = Mean.of(scores)
            columns = {"score": scores.tolist()}
        return Evaluation(answered.metrics() + metrics, answered.samples(**columns), spread)

    def _brought_reward(self) -> Reward | None:
        """What scores the answers, if anything was named."""
        folder, engine, size = self._run.evaluation.reward_model, self._setting.engine, self._run.evaluation.micro_batch_size
        return None if folder is None else brought_reward(folder, self._tokenizer, self._config.max_length, engine, size)

    def _held_out_losses(self, rows: Sequence[Tokens]) -> list[Mean]:
        """One a demonstration, over its response tokens (and its padding with `sft.legacy_padding_loss`)."""
        batch = self._batch([(row, ()) for row in rows])
        return [Mean.of(*each) for each in zip(-self._logprobs(batch, self._packing(batch))[0], batch.targets, strict=True)]

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policy, self._tokenizer

    @property
    def _pad(self) -> int:
        return self._tokenizer.pad_token_id


def _marked(row: Demonstration) -> list[Marked]:
    (prompt, response), spans = row
    return [(prompt + response, [*spans, (len(prompt), len(prompt) + len(response))])]
