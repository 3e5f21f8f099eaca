"""RLOO and GRPO on small real stages: groups, what each loss is made of, and what a response weighs."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from rlhf import chain
from rlhf.models.forward import token_logprobs
from rlhf.result import Status
from rlhf.stages.batches import Responses
from rlhf.stages.grouped import Grouped
from rlhf.stages.interface import Stage
from tests.stages import small
from tests.stages.small import learn, record

Build = Callable[..., Stage]
MOVES = (
    "grpo.learning_rate=3e-3",
    "rloo.learning_rate=3e-3",
    "grpo.kl_coef=0.3",
    "rloo.kl_coef=0.3",
    "rollout.temperature=0.7",
)


def logprobs(stage: Grouped, batch: Responses) -> Tensor:
    """Of the policy as it is now, [B, T]."""
    with torch.no_grad():
        policy = stage._policies.policy
        return token_logprobs(policy, batch.ids, batch.mask, batch.targets, stage._run.rollout.temperature)[0]


def after_three(build: Build, name: str, *overrides: str) -> tuple[Grouped, Responses]:
    """A stage three updates on, and the first rollout's minibatch, which it has left behind."""
    stage = build(name, *MOVES, *overrides)
    assert isinstance(stage, Grouped)
    batches = record(stage, 3)
    learn(stage, batches, 8)
    return stage, batches[0]


def test_the_responses_of_a_group_stand_side_by_side_and_differ(build: Build) -> None:
    stage = build("rloo")
    scored = stage.gather(0, stage._online._prompts[:2])
    prompts = [tuple(prompt) for prompt, _ in scored.rows]
    assert prompts[:4] == [prompts[0]] * 4 and prompts[4:] == [prompts[4]] * 4 and prompts[0] != prompts[4]
    assert len({tuple(response) for _, response in scored.rows[:4]}) == 4


def test_the_first_gradient_of_rloo_is_that_of_reinforce(build: Build) -> None:
    """- A grad log pi(response), averaged over responses, A from score minus KL; nothing is off the policy that sampled."""
    stage = build("rloo", *MOVES)
    (batch,) = record(stage, 1)
    losses, metrics = stage.loss(batch)
    policy = stage.trainable()["policy"].module
    (losses["policy"] / batch.weight).backward()
    found = [parameter.grad.clone() for parameter in policy.parameters() if parameter.grad is not None]
    policy.zero_grad()
    own, _ = token_logprobs(policy, batch.ids, batch.mask, batch.targets, 0.7)
    (-(batch.advantages * own.sum(1)).mean()).backward()
    expected = [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    assert metrics["val/ratio"].value == pytest.approx(1, abs=1e-5)


def test_rloo_pays_for_kl_in_the_reward(build: Build) -> None:
    """A response's advantage is its score less KL, minus the mean of the other three."""
    stage, _ = after_three(build, "rloo")
    scored = stage.gather(9, stage._online._prompts[:2])
    batch = stage.weigh_rollout(scored)
    kl = ((batch.logprobs - batch.reference) * batch.targets).sum(1)
    assert kl.abs().max() > 1e-2
    paid = (scored.scores - 0.3 * kl).view(2, 4)
    others = (paid.sum(1, keepdim=True) - paid) / 3
    torch.testing.assert_close(batch.advantages, (paid - others).flatten(), atol=1e-5, rtol=1e-4)
    assert batch.weight == 8


def test_the_ratio_of_rloo_is_that_of_the_whole_response(build: Build) -> None:
    stage, batch = after_three(build, "rloo")
    ratio = ((logprobs(stage, batch) - batch.logprobs) * batch.targets).sum(1).exp()
    assert (ratio - 1).abs().max() > 0.2  # some are clipped
    plain, bounded = ratio * batch.advantages, ratio.clamp(0.8, 1.2) * batch.advantages
    assert stage.loss(batch)[0]["policy"].item() == pytest.approx(
        -torch.minimum(plain, bounded).sum().item(), rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("weighting", ["sequence", "token", "constant"])
def test_the_loss_of_grpo_is_what_its_formula_says(weighting: str, ratio: str, build: Build) -> None:
    settings = (f"grpo.weighting={weighting}", f"grpo.ratio={ratio}", "grpo.clip_range=0.1", "grpo.clip_range_high=0.3")
    stage, batch = after_three(build, "grpo", *settings)
    now, total = logprobs(stage, batch), 0.0
    for row in range(len(batch.ids)):
        at = batch.targets[row]
        steps = (now - batch.logprobs)[row, at]
        rho = (steps if ratio == "token" else steps.mean().expand_as(steps)).exp()
        advantage = batch.advantages[row]
        gained = torch.minimum(rho * advantage, rho.clamp(0.9, 1.3) * advantage)
        away = (batch.reference - now)[row, at]
        loss = (-gained + 0.3 * (away.exp() - 1 - away)).sum().item()
        total += loss / at.sum().item() if weighting == "sequence" else loss
    counts = {"sequence": 8, "token": batch.targets.sum().item(), "constant": 8 * 12}
    assert stage.loss(batch)[0]["policy"].item() == pytest.approx(total, rel=1e-4, abs=1e-5)
    assert batch.weight == counts[weighting]


def test_micro_batches_of_grpo_divide_by_the_whole_batch(build: Build) -> None:
    stage, batch = after_three(build, "grpo")
    parts = sum(stage.loss(part)[0]["policy"].item() for part in batch.split(3))
    assert parts == pytest.approx(stage.loss(batch)[0]["policy"].item(), rel=1e-4)


def test_a_response_that_was_cut_off_teaches_nothing_if_masked(build: Build) -> None:
    stage = build("grpo", "grpo.mask_truncated=true")
    scored = stage.gather(0, stage._online._prompts[:2])
    half = replace(scored, ended=torch.tensor([True, False] * 4))
    batch = stage.weigh_rollout(half)
    assert batch.shares.bool().tolist() == [True, False] * 4 and batch.weight == 8
    nothing = stage.weigh_rollout(replace(scored, ended=torch.zeros(8, dtype=torch.bool)))
    assert stage.loss(nothing)[0]["policy"].item() == 0 and nothing.weight == 8


def test_long_responses_lose_up_to_a_point(build: Build) -> None:
    stage = build("grpo", "grpo.overlong_tokens=4", "rollout.max_new_tokens=12")
    plain = build("grpo", "rollout.max_new_tokens=12")
    prompts = stage._online._prompts[:2]
    scored = stage.settle(stage.gather(0, prompts))
    lost = (plain.gather(0, prompts).scores - scored.scores).tolist()
    lengths = [len(response) for _, response in scored.rows]
    assert max(lengths) == 12
    assert lost == pytest.approx([min(1.0, max(0.0, (length - 8) / 4)) for length in lengths], abs=1e-5)


def test_groups_that_teach_nothing_are_replaced(build: Build) -> None:
    stage = build("grpo", "grpo.max_resamples=3", "grpo.missing_eos_penalty=0")
    asked: list[int] = []

    def scores(examples: list[object], texts: list[str], rows: list[object]) -> Tensor:
        asked.append(len(rows))
        first = len(asked) == 1  # every response is right, then every second one
        return torch.tensor([1.0 if first or index % 2 else 0.0 for index in range(len(rows))])

    stage._online._reward = SimpleNamespace(score=scores)
    prompts = stage._online._prompts[:2]
    scored = stage.gather(0, prompts)
    assert asked == [8, 8]
    assert scored.scores.tolist() == [0.0, 1.0] * 4
    assert [row[0] for row in scored.rows[::4]] != [ids for _, ids in prompts]
    assert [example.key for example in scored.examples[:4]] == [scored.examples[0].key] * 4

    asked.clear()
    stage._online._reward = SimpleNamespace(score=lambda *given: asked.append(8) or torch.ones(len(given[2])))
    assert stage.gather(0, prompts).scores.tolist() == [1.0] * 8  # three more tries, then it takes what there is
    assert len(asked) == 4


@pytest.mark.parametrize("option", ["default", "dr_grpo", "dapo", "gspo"])
def test_each_option_of_grpo_runs(option: str, forebears: Path) -> None:
    rule = ("reward=function", "reward.function=length", "reward.target_words=5", "evaluation.prompts=4")
    result = chain.execute(small.make_run(forebears, "stage=grpo", f"grpo={option}", *rule, "grpo.minibatches=2"))
    assert result.status is Status.finished, result.message
    assert math.isfinite(result.metrics["reward/gain"])
