"""Bugs of SFT: each function puts one back until its monkeypatch is undone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from rlhf import chain
from rlhf.algorithms import masks
from rlhf.data import generated
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.stages import examples, sft
from rlhf.stages.batches import Sequences
from tests.doctor.breaks.parts import misdivided

Patch = pytest.MonkeyPatch


def _demonstrated(patch: Patch, change: Callable[[Sequences], Tensor]) -> None:
    made = Sequences.demonstrated.__func__  # type: ignore[attr-defined]  # it is a class method

    def broken(cls: type[Sequences], *arguments: Any) -> Sequences:
        batch: Sequences = made(cls, *arguments)
        return replace(batch, targets=change(batch))

    patch.setattr(Sequences, "demonstrated", classmethod(broken))


def padding_in_loss(patch: Patch) -> None:
    _demonstrated(patch, lambda batch: batch.targets | ~batch.mask)


def prompt_in_loss(patch: Patch) -> None:
    def all_but_first(batch: Sequences) -> Tensor:
        targets = batch.mask.clone()
        targets[:, 0] = False
        return targets

    _demonstrated(patch, all_but_first)


def pad_is_eos(patch: Patch) -> None:
    made = sft.load_tokenizer

    def broken(*arguments: Any) -> Any:
        tokenizer = made(*arguments)
        tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    patch.setattr(sft, "load_tokenizer", broken)
    last = masks.last_true
    _demonstrated(patch, lambda batch: batch.targets & batch.ids.ne(batch.ids.gather(1, last(batch.mask)[:, None])))


def end_doubled(patch: Patch) -> None:
    made = examples.response_tokens
    patch.setattr(examples, "response_tokens", lambda *given: [[*ids, ids[-1]] for ids in made(*given)])


def begin_doubled(patch: Patch) -> None:
    made = examples.prompt_tokens
    patch.setattr(examples, "prompt_tokens", lambda tokenizer, *given: [tokenizer.bos_token_id, *made(tokenizer, *given)])


def mean_of_means(patch: Patch) -> None:
    misdivided(patch, sft.SFT, lambda loss, weight, of: loss / weight / 2)  # there are two micro-batches


def schedule_too_fast(patch: Patch) -> None:
    rate = OptimizerSpec.learning_rate_at
    patch.setattr(OptimizerSpec, "learning_rate_at", lambda spec, step: rate(spec, 4 * step))


def split_leaks(patch: Patch) -> None:
    draw = generated._draw
    patch.setattr(chain, "_corpora", {})
    patch.setattr(generated, "_draw", lambda town, stage, chance, held_out, name: draw(town, stage, chance, False, name))
