"""Batches of tokens. Shapes: B sequences, T tokens, R response tokens; padding is never a target."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rlhf.metrics import Metrics

Tokens = tuple[list[int], list[int]]
"""Prompt and response token ids; the response ends with the end token unless it was cut off while sampling."""


@dataclass(frozen=True)
class Sequences:
    """Prompts with their responses, padded on the right."""

    ids: Tensor  # [B, T] int64
    mask: Tensor  # [B, T] bool, true on real tokens
    targets: Tensor  # [B, T] bool, true where the loss looks; never in column 0
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def of(cls, rows: Sequence[Tokens], pad: int, device: torch.device, train_on_prompt: bool = False) -> "Sequences":
        """Pad ``rows``; the targets are the responses, with ``train_on_prompt`` also the prompts behind their first token."""
        width = max(len(prompt) + len(response) for prompt, response in rows)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        targets = torch.zeros((len(rows), width), dtype=torch.bool)
        for row, (prompt, response) in enumerate(rows):
            length = len(prompt) + len(response)
            ids[row, :length] = torch.tensor(prompt + response)
            mask[row, :length] = True
            targets[row, (1 if train_on_prompt else len(prompt)) : length] = True
        return cls(ids.to(device), mask.to(device), targets.to(device))

    @property
    def weight(self) -> float:
        """Target tokens."""
        return self.targets.sum().item()

    def split(self, size: int) -> list["Sequences"]:
        """Micro-batches of at most ``size`` sequences, each cut to its own longest."""
        parts = zip(self.ids.split(size), self.mask.split(size), self.targets.split(size), strict=True)
        return [_trim_right(*part) for part in parts]


@dataclass(frozen=True)
class Pairs:
    """Chosen and rejected answers to the same prompts."""

    chosen: Sequences
    rejected: Sequences
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        """Pairs."""
        return len(self.chosen.ids)

    def joined(self) -> Sequences:
        """All chosen sequences, then all rejected ones: one forward pass instead of two."""
        width = max(self.chosen.ids.shape[1], self.rejected.ids.shape[1])

        def stack(first: Tensor, second: Tensor) -> Tensor:
            return torch.cat([F.pad(each, (0, width - each.shape[1])) for each in (first, second)])

        return Sequences(
            stack(self.chosen.ids, self.rejected.ids),
            stack(self.chosen.mask, self.rejected.mask),
            stack(self.chosen.targets, self.rejected.targets),
        )

    def split(self, size: int) -> list["Pairs"]:
        """Micro-batches of at most ``size`` pairs."""
        return [Pairs(*both) for both in zip(self.chosen.split(size), self.rejected.split(size), strict=True)]


@dataclass(frozen=True)
class Rollout:
    """Sampled responses and what is known of them. Prompts are padded on the left, responses on the right."""

    ids: Tensor  # [B, P + R] int64
    mask: Tensor  # [B, P + R] bool
    targets: Tensor  # [B, P + R] bool, true on response tokens, the end token included
    logprobs: Tensor  # [B, P + R] of the policy that sampled
    values: Tensor  # [B, P + R] of the critic at that time, at the token before each response token
    advantages: Tensor  # [B, P + R]
    returns: Tensor  # [B, P + R]
    critic_only: bool = False
    ptx: Sequences | None = None
    """Text for the language-modelling loss, as many sequences as responses; None: no such loss."""
    ptx_scale: float = 0.0
    """Response tokens of the whole minibatch for each target token of its ``ptx``."""
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        """Response tokens."""
        return self.targets.sum().item()

    def select(self, rows: Tensor) -> "Rollout":
        """Some of the sequences, without the columns in which none of them has a token, and without metrics and text."""
        used = self.mask[rows].any(0)
        columns = slice(int(used.int().argmax()), len(used) - int(used.flip(0).int().argmax()))
        return Rollout(
            ids=self.ids[rows, columns],
            mask=self.mask[rows, columns],
            targets=self.targets[rows, columns],
            logprobs=self.logprobs[rows, columns],
            values=self.values[rows, columns],
            advantages=self.advantages[rows, columns],
            returns=self.returns[rows, columns],
            critic_only=self.critic_only,
        )

    def with_text(self, ptx: Sequences) -> "Rollout":
        """This minibatch with text for the language-modelling loss."""
        return replace(self, ptx=ptx, ptx_scale=self.weight / ptx.weight)

    def split(self, size: int) -> list["Rollout"]:
        """Micro-batches of at most ``size`` responses, each with its part of the text."""
        parts = [self.select(rows) for rows in torch.arange(len(self.ids), device=self.ids.device).split(size)]
        if self.ptx is None:
            return parts
        texts = self.ptx.split(size)
        return [replace(part, ptx=text, ptx_scale=self.ptx_scale) for part, text in zip(parts, texts, strict=True)]


def _trim_right(ids_BT: Tensor, mask_BT: Tensor, targets_BT: Tensor) -> Sequences:
    width = int(mask_BT.sum(1).max())
    return Sequences(ids_BT[:, :width], mask_BT[:, :width], targets_BT[:, :width])
