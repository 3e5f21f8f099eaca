"""Language modelling on plain text.

    loss = - sum over tokens of log pi(token | what stands before it in its block) / number of tokens

Documents are tokenised, each closed by one end token (and begun by a begin token where the tokenizer has one of its own),
laid end to end in the order of the epoch and cut into blocks of `pretrain.max_length` tokens, so that nothing is padded and
nothing cut away. A block may hold the end of one document and the beginning of the next, and sees over the border (as in
Brown et al. 2020, appendix B). The first token of a block is context only.
"""

import itertools
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
from rlhf.models.adapters import add_adapters
from rlhf.models.forward import recompute_activations, token_logprobs
from rlhf.models.load import load_policy
from rlhf.models.template import document_tokens, response_text
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rollout.sample import noise_keys, sample
from rlhf.stages.answers import plain_sampling
from rlhf.stages.batches import Sequences
from rlhf.stages.examples import in_groups, in_turns
from rlhf.stages.interface import Evaluation, Setting, Stage
from rlhf.stages.shown import COUNT, as_text

BEGINNING = 16
"""Tokens of a held-out document that are continued as a sample."""


class Pretrain(Stage[Sequences]):
    """A causal language model trained on documents."""

    reads = READS["pretrain"]
    makes = "policy"

    def __init__(self, setting: Setting) -> None:
        self._setting, self._run, self._config = setting, setting.run, setting.run.pretrain
        examples = setting.corpus.examples("pretrain", "train")
        self._tokenizer = load_tokenizer(self._run.model, (example.response or "" for example in examples))
        self._documents = self._tokens(examples)
        self._policy = load_policy(self._run.model, self._tokenizer, None, self._run.seed)
        add_adapters(self._policy, self._run.lora, "lora", self._run.seed)
        if self._config.gradient_checkpointing:
            recompute_activations(self._policy)
        self._policy.train()
        setting.engine.place(self._policy)
        tokens = sum(len(self._documents[index]) for index in setting.corpus.order("pretrain", 0, self._run.seed))
        self.rounds = self._total_steps(tokens)
        self.rounds_per_epoch = Fraction(tokens, self._config.max_length * self._config.batch_size)
        self.eval_every_epoch = self._config.eval_every_epoch
        self.notes = [f"{len(examples)} documents, {tokens} tokens an epoch"]
        blocks = [block.tolist() for block in itertools.islice(self._blocks(), COUNT)]
        self.notes += [f"block: {as_text(self._tokenizer, block, [(1, len(block))])}" for block in blocks]
        self.micro_batch_size = self._config.micro_batch_size
        self.log_every, self.eval_every, self.save_every = (
            self._config.log_every,
            self._config.eval_every,
            self._config.save_every,
        )
        setting.engine.prepare(self.trainable())

    def trainable(self) -> dict[str, Trainable]:
        """The policy."""
        return {"policy": Trainable(self._policy, OptimizerSpec.of(self._config, self._config.learning_rate, self.rounds))}

    # data

    def batches(self, first_round: int) -> Iterator[list[Sequences]]:
        """One batch of blocks a step."""
        size = self._config.batch_size
        blocks = itertools.islice(self._blocks(), first_round * size, None)
        while True:
            yield [self._batch(list(itertools.islice(blocks, size)))]

    def _blocks(self) -> Iterator[Tensor]:
        """Blocks of `max_length` tokens without end; what is left of one epoch begins the next."""
        left = torch.empty(0, dtype=torch.long)
        for epoch in itertools.count():
            order = self._setting.corpus.order("pretrain", epoch, self._run.seed)
            left = torch.cat([left, *(self._documents[index] for index in order)])
            *whole, last = left.split(self._config.max_length)
            if len(last) == self._config.max_length:
                whole, last = [*whole, last], last[:0]
            yield from whole
            left = last

    def _batch(self, blocks: Sequence[Tensor]) -> Sequences:
        ids = torch.stack(list(blocks)).to(self._setting.engine.device)
        targets = torch.ones_like(ids, dtype=torch.bool)
        targets[:, 0] = False
        return Sequences(ids, torch.ones_like(targets), targets)

    def _tokens(self, examples: Sequence[Example]) -> list[Tensor]:
        return [torch.tensor(ids) for ids in document_tokens(self._tokenizer, [each.response or "" for each in examples])]

    def _total_steps(self, tokens: int) -> int:
        config = self._config
        steps = int(config.epochs * tokens) // (config.max_length * config.batch_size)
        if steps == 0:
            raise Fault(
                f"pretrain.batch_size={config.batch_size}: {config.epochs} epochs of {tokens} tokens do not fill one batch of "
                f"blocks of pretrain.max_length={config.max_length}; use smaller ones or more epochs"
            )
        return min(steps, config.max_steps) if config.max_steps is not None else steps

    # loss

    def loss(self, batch: Sequences) -> tuple[dict[str, Tensor], Metrics]:
        """Summed negative log-likelihood."""
        logprobs, entropies = self._logprobs(batch)
        metrics: dict[str, Metric] = {
            "policy/entropy": Mean.of(entropies, batch.targets),
            "perf/tokens": Total(batch.mask.sum().item()),
        }
        return {"policy": sft_loss(logprobs, batch.targets)}, Metrics(metrics)

    def _logprobs(self, batch: Sequences) -> tuple[Tensor, Tensor]:
        inputs = (batch.ids, batch.mask, batch.targets)
        return self._setting.engine.forward(token_logprobs, self._policy, *inputs, 1.0, False, self._run.fp32_loss)

    # evaluate

    @torch.no_grad()
    def evaluate(self, round_: int) -> Evaluation:
        """Perplexity of held-out documents, and a few of their beginnings continued."""
        limit, held_out = self._run.evaluation, self._setting.corpus.examples("pretrain", "held_out")
        documents = self._tokens([held_out[index] for index in in_turns(held_out, len(held_out))])
        blocks = [each for each in torch.cat(documents).split(self._config.max_length) if len(each) > 1][: limit.examples]
        full = len(blocks) - (len(blocks[-1]) < self._config.max_length)
        groups = [*in_groups(blocks[:full], limit.micro_batch_size), *([[each] for each in blocks[full:]])]
        self._policy.eval()
        loss = sum(self._setting.engine.spread(groups, self._held_out_loss), Mean(0.0, 0))
        samples = self._continued(documents[: limit.samples])
        self._policy.train()
        return Evaluation(Metrics({"eval/loss": loss, "eval/perplexity": Mean(math.exp(min(loss.value, 700.0)), 1)}), samples)

    def _held_out_loss(self, blocks: Sequence[Tensor]) -> Mean:
        batch = self._batch(blocks)
        return Mean.of(-self._logprobs(batch)[0], batch.targets)

    def _continued(self, documents: Sequence[Tensor]) -> list[dict[str, str | float]]:
        limit, tokenizer = self._run.evaluation, self._tokenizer
        beginnings = [document[:BEGINNING].tolist() for document in documents]
        sampling = plain_sampling(limit, BEGINNING)
        keys = noise_keys(f"{self._run.seed}/evaluation", map(str, beginnings))
        engine, eos, pad = self._setting.engine, tokenizer.eos_token_id, tokenizer.pad_token_id
        responses = sample(engine, self._policy, beginnings, keys, sampling, eos, pad)
        return [
            {"prompt": response_text(tokenizer, beginning), "response": response_text(tokenizer, response)}
            for beginning, response in zip(beginnings, responses, strict=True)
        ]

    def export(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The policy and its tokenizer."""
        return self._policy, self._tokenizer
