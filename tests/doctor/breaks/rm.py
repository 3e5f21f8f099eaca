"""Bugs of reward models: each function puts one back until its monkeypatch is undone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from rlhf import chain
from rlhf.algorithms import losses
from rlhf.data import generated
from rlhf.data.records import Example
from rlhf.rewards import model as reward_model
from rlhf.stages import comparison, rm
from rlhf.stages.batches import Ranked
from tests.doctor.breaks.parts import misdivided

Patch = pytest.MonkeyPatch


def loss_divided_twice(patch: Patch) -> None:
    misdivided(patch, rm.RewardModel, lambda loss, weight, of: loss / of / weight)


def score_on_padding(patch: Patch) -> None:
    patch.setattr(reward_model, "last_true", lambda mask: torch.full(mask.shape[:1], mask.shape[1] - 1))


def pairs_cut(patch: Patch) -> None:
    def broken(tokenizer: Any, given: Sequence[Example], longest: int, cache: Any, rated: bool = False) -> list[Ranked | None]:
        rows = comparison.tokens_of(tokenizer, given, [example.answers for example in given], longest, cache)
        return [row and Ranked(tuple((prompt, response[:4]) for prompt, response in row)) for row in rows]

    patch.setattr(rm, "ranked", broken)


def pairs_swapped(patch: Patch) -> None:
    patch.setattr(rm, "pairwise_loss", lambda better, worse, share: losses.pairwise_loss(worse, better, share))


def longer_is_chosen(patch: Patch) -> None:
    draw = generated._draw

    def broken(town: Any, stage: str, chance: Any, held_out: bool, name: str) -> Example:
        example = draw(town, stage, chance, held_out, name)
        answers = sorted(filter(None, (example.response, example.rejected)), key=len)
        if held_out or len(answers) < 2:
            return example
        return replace(example, response=answers[1], rejected=answers[0], probability=None)

    patch.setattr(chain, "_corpora", {})
    patch.setattr(generated, "_draw", broken)
