"""Bugs of what PPO samples, and how: each function puts one back until its monkeypatch is undone."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.models import forward
from rlhf.rollout import sample as rollout
from rlhf.stages import online
from rlhf.stages.policies import Policies

Patch = pytest.MonkeyPatch


def temperature_forgotten(patch: Patch) -> None:
    began = Policies.__init__
    patch.setattr(
        Policies, "__init__", lambda self, setting, tokenizer, start, where, *_: began(self, setting, tokenizer, start, where)
    )


def end_forbidden(patch: Patch) -> None:
    stream = rollout.stream

    def broken(model: Any, prompts: Any, noise: Tensor, sampling: Any, eos: int, pad: int) -> Iterator[Tensor]:
        return stream(model, prompts, noise, sampling, eos, pad, lambda logits: logits.index_fill(1, torch.tensor([eos]), -1e9))

    patch.setattr(rollout, "stream", broken)


def positions_ignore_padding(patch: Patch) -> None:
    patch.setattr(forward, "positions", lambda mask: torch.arange(mask.shape[1]).expand(mask.shape))


def _sampler(patch: Patch, other: Callable[[Any], Any]) -> None:
    respond = online.respond
    patch.setattr(online, "respond", lambda engine, policy, *given: respond(engine, other(policy), *given))


def _changed(policy: Any, change: Callable[[Tensor], Tensor]) -> Any:
    other = copy.deepcopy(policy)
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(change(weight))
    return other


def sampler_broken(patch: Patch) -> None:
    torch.manual_seed(0)
    _sampler(patch, lambda policy: _changed(policy, lambda weight: weight + 0.2 * weight.std() * torch.randn_like(weight)))


def sampler_stale(patch: Patch) -> None:
    kept: list[Any] = []

    def first(policy: Any) -> Any:
        kept.append(policy if kept else copy.deepcopy(policy))
        return kept[0]

    _sampler(patch, first)


def sampler_rounded(patch: Patch) -> None:
    _sampler(patch, lambda policy: _changed(policy, lambda weight: weight.bfloat16().float()))


def noise_shared(patch: Patch) -> None:
    keys = rollout.noise_keys
    patch.setattr(online, "noise_keys", lambda purpose, prompts: [purpose] * len(keys(purpose, prompts)))


def dropout_on(patch: Patch) -> None:
    began = Policies.__init__

    def broken(self: Policies, *arguments: Any) -> None:
        began(self, *arguments)
        self.policy.train()

    patch.setattr(Policies, "__init__", broken)
