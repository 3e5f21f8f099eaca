"""Batches of tokens. Shapes: B sequences, T tokens, R response tokens; padding is never a target."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_columns

from rlhf.metrics import Metrics

Tokens = tuple[list[int], list[int]]
"""Prompt and response token ids; the response ends with the end token unless it was cut off while sampling."""

Span = tuple[int, int]
"""First token and the one behind the last."""

Demonstration = tuple[Tokens, tuple[Span, ...]]
"""What is learnt: the response, and these parts of the prompt."""


@dataclass(frozen=True)
class Sequences:
    """Prompts with their responses, padded on the right."""

    ids: Tensor  # [B, T] int64
    mask: Tensor  # [B, T] bool, true on real tokens
    targets: Tensor  # [B, T] bool, true where the loss looks; never in column 0
    metrics: Metrics = field(default_factory=Metrics)

    @classmethod
    def of(cls, rows: Sequence[Tokens], pad: int, device: torch.device) -> "Sequences":
        """Pad ``rows``; the targets are the responses."""
        return cls.demonstrated([(row, ()) for row in rows], pad, device)

    @classmethod
    def demonstrated(cls, rows: Sequence[Demonstration], pad: int, device: torch.device) -> "Sequences":
        """Pad ``rows``; the targets are the responses and the named parts of the prompts, which never hold the first token."""
        width = max(len(prompt) + len(response) for (prompt, response), _ in rows)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.bool)
        targets = torch.zeros((len(rows), width), dtype=torch.bool)
        for row, ((prompt, response), spans) in enumerate(rows):
            length = len(prompt) + len(response)
            ids[row, :length] = torch.tensor(prompt + response)
            mask[row, :length] = True
            for start, end in (*spans, (len(prompt), length)):
                targets[row, start:end] = True
        return cls(ids.to(device), mask.to(device), targets.to(device))

    def with_padding_learnt(self, pad: int, width: int) -> "Sequences":
        """As wide as ``width``, with every token of padding a target."""
        extra = (0, width - self.ids.shape[1])
        ids, mask = pad_columns(self.ids, extra, value=pad), pad_columns(self.mask, extra)
        return replace(self, ids=ids, mask=mask, targets=pad_columns(self.targets, extra) | ~mask)

    @property
    def weight(self) -> float:
        """Target tokens."""
        return self.targets.sum().item()

    def padded(self, left: int, right: int) -> "Sequences":
        """The same with so many columns of padding more on either side."""
        ids, mask, targets = (pad_columns(each, (left, right)) for each in (self.ids, self.mask, self.targets))
        return replace(self, ids=ids, mask=mask, targets=targets)

    def split(self, size: int) -> list["Sequences"]:
        """Micro-batches of at most ``size`` sequences, each cut to its own longest."""
        parts = zip(self.ids.split(size), self.mask.split(size), self.targets.split(size), strict=True)
        return [_trim_right(*part) for part in parts]


@dataclass(frozen=True)
class Ranked:
    """Answers to one prompt."""

    answers: tuple[Tokens, ...]
    """From best to worst."""
    margin: float = 0.0
    """How much better the first is than the last, where that is known."""
    ratings: tuple[float, ...] = ()
    """Of each answer; empty where they are not known."""


@dataclass(frozen=True)
class Comparisons:
    """B prompts with their ranked answers, N in all, which pass the network together: all best ones first, then the second."""

    rows: Sequence[Ranked]
    pad: int
    device: torch.device
    likelihood_scale: float = 0.0
    """Prompts of the whole batch for each token whose likelihood is learnt beside."""
    metrics: Metrics = field(default_factory=Metrics)
    more: tuple[int, int] = (0, 0)
    """Columns of padding left and right of what the rows need."""

    @property
    def weight(self) -> float:
        """Prompts."""
        return len(self.rows)

    def split(self, size: int) -> list["Comparisons"]:
        """Micro-batches of at most ``size`` prompts."""
        return [replace(self, rows=self.rows[first : first + size]) for first in range(0, len(self.rows), size)]

    def padded(self, left: int, right: int) -> "Comparisons":
        """The same with so many columns of padding more on either side."""
        return replace(self, more=(left, right))

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        """Rank and prompt of each answer."""
        return sorted((rank, prompt) for prompt, row in enumerate(self.rows) for rank in range(len(row.answers)))

    @cached_property
    def answers(self) -> Sequences:
        """All answers with their prompts."""
        rows = [self.rows[prompt].answers[rank] for rank, prompt in self._places]
        return Sequences.of(rows, self.pad, self.device).padded(*self.more)

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        """Indices of the better and of the worse answer of each of P pairs, and its share [P] among the pairs of its prompt."""
        index_of = {place: index for index, place in enumerate(self._places)}
        better, worse, share = [], [], []
        for prompt, row in enumerate(self.rows):
            ranks = list(combinations(range(len(row.answers)), 2))
            better += [index_of[first, prompt] for first, _ in ranks]
            worse += [index_of[second, prompt] for _, second in ranks]
            share += [1 / len(ranks) for _ in ranks]
        first, second = (torch.tensor(each, dtype=torch.long, device=self.device) for each in (better, worse))
        return first, second, torch.tensor(share, device=self.device)

    @property
    def margins(self) -> Tensor:
        """Margin [P] of each pair; 0 where only the ends of a longer list have one."""
        margins = [row.margin if len(row.answers) == 2 else 0.0 for row in self.rows for _ in combinations(row.answers, 2)]
        return torch.tensor(margins, device=self.device)

    @property
    def prompts(self) -> Tensor:
        """The prompt [N] of each answer."""
        return torch.tensor([prompt for _, prompt in self._places], device=self.device)

    @property
    def ranks(self) -> Tensor:
        """The rank [N] of each answer; 0 is best."""
        return torch.tensor([rank for rank, _ in self._places], device=self.device)

    @property
    def ratings(self) -> Tensor:
        """The rating [N] of each answer; every one must be known."""
        return torch.tensor([self.rows[prompt].ratings[rank] for rank, prompt in self._places], device=self.device)

    @property
    def shares(self) -> Tensor:
        """Share [N] of each answer among those of its prompt."""
        return torch.tensor([1 / len(self.rows[prompt].answers) for _, prompt in self._places], device=self.device)


@dataclass(frozen=True)
class Rollout:
    """Sampled responses and what is known of them. Prompts are padded on the left, responses on the right."""

    ids: Tensor  # [B, P + R] int64
    mask: Tensor  # [B, P + R] bool
    targets: Tensor  # [B, P + R] bool, true on response tokens, the end token included
    logprobs: Tensor  # [B, P + R] of the policy that sampled
    valued: Tensor  # [B, P + R] bool, true where the critic is asked: as `targets`, and perhaps the column behind
    values: Tensor  # [B, P + R] of the critic at that time, at the token before each response token
    advantages: Tensor  # [B, P + R]
    returns: Tensor  # [B, P + R]
    critic_only: bool = False
    value_scale: float = 1.0
    """Response tokens of the whole minibatch for each place in it that the critic values."""
    first: bool = False
    """Whether nothing has been learnt from the rollout yet."""
    ptx: Sequences | None = None
    """Text for the language-modelling loss, as many sequences as responses; None: no such loss."""
    ptx_scale: float = 0.0
    """Response tokens of the whole minibatch for each target token of its ``ptx``."""
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        """Response tokens."""
        return self.targets.sum().item()

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        return _tensors(self)

    def select(self, rows: Tensor) -> "Rollout":
        """Some of the sequences, without the columns in which none of them has a token, and without metrics and text."""
        columns = _used((self.mask | self.valued)[rows])
        return Rollout(
            ids=self.ids[rows, columns],
            mask=self.mask[rows, columns],
            targets=self.targets[rows, columns],
            logprobs=self.logprobs[rows, columns],
            valued=self.valued[rows, columns],
            values=self.values[rows, columns],
            advantages=self.advantages[rows, columns],
            returns=self.returns[rows, columns],
            critic_only=self.critic_only,
            value_scale=self.value_scale,
            first=self.first,
        )

    def with_value_scale(self) -> "Rollout":
        """This as a whole minibatch, over which the critic's loss is a mean."""
        return replace(self, value_scale=self.weight / self.valued.sum().item())

    def padded(self, left: int, right: int) -> "Rollout":
        """The same with so many columns of padding more on either side; its text, too."""
        wide: dict[str, Any] = {name: pad_columns(value, (left, right)) for name, value in self.tensors().items()}
        return replace(self, **wide, ptx=None if self.ptx is None else self.ptx.padded(left, right))

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


@dataclass(frozen=True)
class Responses:
    """Sampled responses, each with one advantage. Prompts are padded on the left, responses on the right."""

    ids: Tensor  # [B, P + R] int64
    mask: Tensor  # [B, P + R] bool
    targets: Tensor  # [B, P + R] bool, true on response tokens, the end token included
    logprobs: Tensor  # [B, P + R] of the policy that sampled
    reference: Tensor  # [B, P + R] log-probabilities of the policy it started from
    advantages: Tensor  # [B]
    shares: Tensor  # [B] weight of each of a response's tokens
    units: Tensor  # [B] what a response counts for in the number that the loss is divided by
    first: bool = False
    """Whether nothing has been learnt from the rollout yet."""
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        """What the responses count for."""
        return self.units.sum().item()

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name."""
        return _tensors(self)

    def select(self, rows: Tensor) -> "Responses":
        """Some of the responses, without the columns in which none of them has a token, and without metrics."""
        columns = _used(self.mask[rows])
        return Responses(
            ids=self.ids[rows, columns],
            mask=self.mask[rows, columns],
            targets=self.targets[rows, columns],
            logprobs=self.logprobs[rows, columns],
            reference=self.reference[rows, columns],
            advantages=self.advantages[rows],
            shares=self.shares[rows],
            units=self.units[rows],
            first=self.first,
        )

    def padded(self, left: int, right: int) -> "Responses":
        """The same with so many columns of padding more on either side."""
        names = ("ids", "mask", "targets", "logprobs", "reference")
        wide: dict[str, Any] = {name: pad_columns(getattr(self, name), (left, right)) for name in names}
        return replace(self, **wide)

    def split(self, size: int) -> list["Responses"]:
        """Micro-batches of at most ``size`` responses."""
        return [self.select(rows) for rows in torch.arange(len(self.ids), device=self.ids.device).split(size)]


def _tensors(batch: Rollout | Responses) -> dict[str, Tensor]:
    values = {each.name: getattr(batch, each.name) for each in fields(batch)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _used(mask_BT: Tensor) -> slice:
    """The columns from the first to the last in which any row has a token."""
    used = mask_BT.any(0)
    return slice(int(used.int().argmax()), len(used) - int(used.flip(0).int().argmax()))


def _trim_right(ids_BT: Tensor, mask_BT: Tensor, targets_BT: Tensor) -> Sequences:
    width = int((mask_BT | targets_BT).sum(1).max())
    return Sequences(ids_BT[:, :width], mask_BT[:, :width], targets_BT[:, :width])
