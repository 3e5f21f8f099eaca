"""The bugs themselves: each function puts one back until its monkeypatch is undone."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf import chain, loop
from rlhf.algorithms import advantages, kl, losses, masks
from rlhf.data import generated
from rlhf.data.records import Example
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.metrics import Mean
from rlhf.models import forward
from rlhf.models.load import load_policy
from rlhf.rewards import model as reward_model
from rlhf.rewards.scale import Scale
from rlhf.rollout import sample as rollout
from rlhf.stages import comparison, examples, online, ppo, rm, sft
from rlhf.stages.batches import Ranked, Rollout, Sequences
from rlhf.stages.networks import Networks
from rlhf.stages.policies import Policies

Patch = pytest.MonkeyPatch


def nothing(patch: Patch) -> None:
    """For bugs that are settings."""


# what is learnt of a sequence


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


# steps


def mean_of_means(patch: Patch) -> None:
    patch.setattr(loop, "_share", lambda loss, weight, of: loss / weight / 2)  # there are two micro-batches


def loss_divided_twice(patch: Patch) -> None:
    patch.setattr(loop, "_share", lambda loss, weight, of: loss / of / weight)


def schedule_too_fast(patch: Patch) -> None:
    rate = OptimizerSpec.learning_rate_at
    patch.setattr(OptimizerSpec, "learning_rate_at", lambda spec, step: rate(spec, 4 * step))


# data


def split_leaks(patch: Patch) -> None:
    draw = generated._draw
    patch.setattr(chain, "_corpora", {})
    patch.setattr(generated, "_draw", lambda town, stage, chance, held_out, name: draw(town, stage, chance, False, name))


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


# scores


def score_on_padding(patch: Patch) -> None:
    patch.setattr(reward_model, "last_true", lambda mask: torch.full(mask.shape[:1], mask.shape[1] - 1))


def reward_bias_dropped(patch: Patch) -> None:
    scale = Scale.of
    patch.setattr(Scale, "of", lambda raw, stage: scale(raw + 2.0, stage))


def score_behind_end(patch: Patch) -> None:
    def broken(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
        rewards = (-coefficient * kl).masked_fill(~mask, 0.0)
        behind = (masks.last_true(mask) + 1).clamp(max=mask.shape[1] - 1)
        return rewards.scatter_add(1, behind[:, None], scores[:, None])

    patch.setattr(ppo, "token_rewards", broken)


# sampling


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


# credit


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


# networks


def reference_is_base(patch: Patch) -> None:
    began = Policies.__init__

    def broken(self: Policies, setting: Any, tokenizer: Any, *rest: Any) -> None:
        began(self, setting, tokenizer, *rest)
        self._copy = load_policy(setting.run.model, tokenizer, None, setting.run.seed)
        setting.engine.freeze(self._copy)

    patch.setattr(Policies, "__init__", broken)


def reference_shared(patch: Patch) -> None:
    @contextmanager
    def shared(self: Policies) -> Iterator[Any]:
        yield self.policy

    patch.setattr(Policies, "reference", shared)


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
