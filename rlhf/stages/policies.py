"""A policy that learns, and the frozen policy it is measured against."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf.models.adapters import add_adapters, unadapted, without_adapters
from rlhf.models.forward import recompute_activations, token_logprobs
from rlhf.models.load import load_policy
from rlhf.rollout.sample import left_pad
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.interface import Network, Setting


class Padded(Protocol):
    """Sequences, or a rollout."""

    @property
    def ids(self) -> Tensor:
        """[B, T] int64."""
        ...

    @property
    def mask(self) -> Tensor:
        """[B, T] bool, true on real tokens."""
        ...

    @property
    def targets(self) -> Tensor:
        """[B, T] bool, true on the tokens that are asked about."""
        ...


class Policies:
    """The policy and its reference: a frozen copy of where it started or, with adapters, the policy with them off.

    There is no dropout in either, so that two passes of the same weights give the same numbers.
    """

    def __init__(
        self,
        setting: Setting,
        tokenizer: PreTrainedTokenizerBase,
        start: Path | None,
        reference_device: str,
        temperature: float = 1.0,
        entropy_gradient: bool = False,
    ) -> None:
        """Load both and place them.

        Args:
            start: artifact of the policy to start from; None: the model's own weights.
            reference_device: where the weights of a frozen copy are.
            temperature: logits are divided by it.
            entropy_gradient: whether entropies are part of the objective.
        """
        run = setting.run
        self.tokenizer, self._engine = tokenizer, setting.engine
        self._settings = (temperature, entropy_gradient, run.fp32_loss)
        self.policy = load_policy(run.model, tokenizer, start, run.seed)
        self._copy = None if run.lora.dim else copy.deepcopy(self.policy)
        add_adapters(self.policy, run.lora, "lora", run.seed)
        self._engine.place(self.policy)
        self.policy.eval()
        if self._copy is not None:
            self._engine.freeze(self._copy, reference_device)

    def pad(self, rows: Sequence[Tokens]) -> Sequences:
        """Prompts padded on the left and responses, the targets, on the right."""
        pad, device = self.tokenizer.pad_token_id, self._engine.device
        prompts, prompt_mask = left_pad([prompt for prompt, _ in rows], pad, device)
        reversed_ids, reversed_mask = left_pad([response[::-1] for _, response in rows], pad, device)
        responses, response_mask = reversed_ids.flip(1), reversed_mask.flip(1)
        targets = torch.cat([torch.zeros_like(prompt_mask), response_mask], 1)
        return Sequences(torch.cat([prompts, responses], 1), torch.cat([prompt_mask, response_mask], 1), targets)

    def logprobs(self, batch: Padded) -> tuple[Tensor, Tensor]:
        """The policy's log-probability of each target, and the entropy of its distribution there; [B, T], 0 elsewhere."""
        return self._logprobs(self.policy, batch)

    @contextmanager
    def reference(self) -> Iterator[PreTrainedModel]:
        """The policy as it started: a frozen copy of it, or, where adapters are trained, the policy with its adapters off."""
        if self._copy is not None:
            yield self._copy
        else:
            with without_adapters(self.policy):
                yield self.policy

    def start(self) -> Network:
        """The policy as it started, with its whole weights. Every rank must call it."""
        network = self.policy if self._copy is None else self._copy
        return network, unadapted(network, self._engine.weights(network))

    @torch.no_grad()
    def reference_logprobs(self, batch: Padded) -> Tensor:
        """The reference's log-probability of each target; [B, T], 0 elsewhere."""
        with self.reference() as reference:
            return self._logprobs(reference, batch)[0]

    def _logprobs(self, policy: PreTrainedModel, batch: Padded) -> tuple[Tensor, Tensor]:
        return self._engine.forward(token_logprobs, policy, batch.ids, batch.mask, batch.targets, *self._settings)


def recompute(*networks: PreTrainedModel) -> None:
    """Gradient checkpointing for networks without dropout: transformers hears of it in training mode only."""
    for network in networks:
        recompute_activations(network)
        network.train()  # `checks` sees to it that dropout is 0
