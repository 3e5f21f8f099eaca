"""Bugs of what PPO makes of its samples: each function puts one back until its monkeypatch is undone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.algorithms import advantages, kl, losses, masks
from rlhf.metrics import Mean
from rlhf.models import forward
from rlhf.models.load import load_policy
from rlhf.rewards.scale import Scale
from rlhf.stages import ppo
from rlhf.stages.batches import Rollout, Sequences
from rlhf.stages.networks import Networks
from rlhf.stages.policies import Policies

Patch = pytest.MonkeyPatch


def reward_bias_dropped(patch: Patch) -> None:
    scale = Scale.of
    patch.setattr(Scale, "of", lambda raw, stage: scale(raw + 2.0, stage))


def score_behind_end(patch: Patch) -> None:
    def broken(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
        rewards = (-coefficient * kl).masked_fill(~mask, 0.0)
        behind = (masks.last_true(mask) + 1).clamp(max=mask.shape[1] - 1)
        return rewards.scatter_add(1, behind[:, None], scores[:, None])

    patch.setattr(ppo, "token_rewards", broken)


def last_action_dropped(patch: Patch) -> None:
    pad = Policies.pad

    def broken(self: Policies, rows: Any) -> Sequences:
        batch = pad(self, rows)
        return replace(batch, targets=batch.targets.scatter(1, masks.last_true(batch.targets)[:, None], False))

    patch.setattr(Policies, "pad", broken)


def _told_otherwise(patch: Patch, name: str, change: Callable[[Rollout], Mean]) -> None:
    score = ppo.PPO.score_rollout

    def broken(self: ppo.PPO, *given: Any) -> Rollout:
        made = score(self, *given)
        rows = dict(made.metrics) | {name: change(made)}
        return replace(made, metrics=type(made.metrics)(rows))

    patch.setattr(ppo.PPO, "score_rollout", broken)


def entropy_of_sentinels(patch: Patch) -> None:
    def summed(made: Rollout) -> Mean:
        told = made.metrics["objective/entropy"]
        assert isinstance(told, Mean)
        return Mean(told.total - (~made.targets).sum().item(), told.count)

    _told_otherwise(patch, "objective/entropy", summed)


def entropy_diluted(patch: Patch) -> None:
    of = Mean.of.__func__  # type: ignore[attr-defined]  # it is a class method
    logprobs = Policies.logprobs

    class Diluted(Mean):
        @classmethod
        def of(cls, values: Tensor, mask: Tensor | None = None) -> Mean:
            return of(Mean, values) if values is seen[-1] else of(Mean, values, mask)  # type: ignore[no-any-return]

    seen: list[Any] = [None]

    def broken(self: Policies, batch: Any) -> tuple[Tensor, Tensor]:
        found = logprobs(self, batch)
        seen.append(found[1])
        return found

    patch.setattr(Policies, "logprobs", broken)
    patch.setattr(ppo, "Mean", Diluted)


def values_of_padding(patch: Patch) -> None:
    def values(self: Networks, batch: Any) -> Tensor:
        scores = self._engine.forward(forward.token_scores, self.critic, batch.ids, batch.mask)
        return self.critic_scale(scores).roll(1, dims=1)

    def broken(rewards: Tensor, worth: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
        return advantages.gae(rewards, worth, torch.ones_like(mask), gamma, lam)

    patch.setattr(Networks, "values", values)
    patch.setattr(ppo, "gae", broken)


def whitening_counts_padding(patch: Patch) -> None:
    def broken(values: Tensor, mask: Tensor, **options: bool) -> Tensor:
        return masks.whiten(values, torch.ones_like(mask), **options).masked_fill(~mask, 0.0)

    patch.setattr(ppo, "whiten", broken)


def other_kl_paid(patch: Patch) -> None:
    made = advantages.token_rewards
    patch.setattr(ppo, "token_rewards", lambda scores, cost, mask, coefficient: made(scores, cost.abs(), mask, coefficient))


def kl_reversed(patch: Patch) -> None:
    patch.setattr(ppo, "k1", lambda logprobs, reference: kl.k1(reference, logprobs))


def adaptive_kl_ignored(patch: Patch) -> None:
    patch.setattr(ppo, "adapted_coefficient", lambda coefficient, *_: coefficient)


def response_means(patch: Patch) -> None:
    def broken(logprobs: Tensor, old: Tensor, worth: Tensor, mask: Tensor, clip_range: float) -> Tensor:
        ratio = losses.policy_ratio(logprobs, old, mask)
        gained = torch.minimum(worth * ratio, worth * ratio.clamp(1 - clip_range, 1 + clip_range)).masked_fill(~mask, 0.0)
        return -(gained.sum(1) / mask.sum(1)).mean() * mask.sum()

    patch.setattr(ppo, "ppo_policy_loss", broken)


def reference_is_base(patch: Patch) -> None:
    began = Policies.__init__

    def broken(self: Policies, setting: Any, tokenizer: Any, *rest: Any) -> None:
        began(self, setting, tokenizer, *rest)
        self._copy = load_policy(setting.run.model, tokenizer, None, setting.run.seed)
        setting.engine.freeze(self._copy)

    patch.setattr(Policies, "__init__", broken)


def value_head_wild(patch: Patch) -> None:
    load = Networks._load_critic

    def broken(self: Networks, setting: Any) -> Any:
        critic, speaks = load(self, setting)
        with torch.no_grad():
            critic.score.weight.mul_(30.0)  # type: ignore[union-attr,operator]
        return critic, speaks

    patch.setattr(Networks, "_load_critic", broken)


def policy_detached(patch: Patch) -> None:
    logprobs = Policies.logprobs

    def broken(self: Policies, batch: Any) -> tuple[Tensor, Tensor]:
        found = logprobs(self, batch)
        return found[0].detach(), found[1]

    patch.setattr(Policies, "logprobs", broken)
