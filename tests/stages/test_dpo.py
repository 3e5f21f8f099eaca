"""DPO on a small real stage: each loss is what its formula says of log-probabilities worked out apart, and it learns."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.config import Run
from rlhf.models.forward import token_logprobs
from rlhf.report.folder import rows
from rlhf.result import Status
from rlhf.stages.batches import Sequences
from rlhf.stages.dpo import DPO
from rlhf.stages.interface import Stage
from tests.stages.small import learn, record

BETA = 0.4
Build = Callable[..., Stage]


def first_loss(stage: DPO) -> float:
    """The loss of the first batch as the loop divides it."""
    (batch,) = record(stage, 1)
    losses, _ = stage.loss(batch)
    return losses["policy"].item() / batch.weight


def answers(stage: DPO, side: int) -> Sequences:
    """The best (0) or the worst (-1) answers of the first batch, padded anew and alone."""
    (batch,) = record(stage, 1)
    return Sequences.of([row.answers[side] for row in batch.rows], batch.pad, batch.device)


def summed(policy: torch.nn.Module, batch: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability [B] of each answer, and its mean a token."""
    with torch.no_grad():
        logprobs, _ = token_logprobs(policy, batch.ids, batch.mask, batch.targets)
    return logprobs.sum(1), logprobs.sum(1) / batch.targets.sum(1)


def moved(build: Build, *overrides: str) -> tuple[DPO, torch.Tensor, torch.Tensor]:
    """A stage after three updates, and the log-ratios of its best and worst answers: sums and means, [2, B] each."""
    stage = build("dpo", "dpo.warmup_steps=0", "dpo.learning_rate=3e-3", f"dpo.beta={BETA}", *overrides)
    learn(stage, record(stage, 3), 8)
    sums, means = [], []
    for side in (0, -1):
        batch = answers(stage, side)
        own_sum, own_mean = summed(stage._policies.policy, batch)
        with stage._policies.reference() as reference:
            sum_before, mean_before = summed(reference, batch)
        sums.append(own_sum - sum_before)
        means.append(own_mean - mean_before)
    return stage, torch.stack(sums), torch.stack(means)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], math.log(2)),
        (["dpo.label_smoothing=0.1"], math.log(2)),
        (["lora=dim8"], math.log(2)),
        (["dpo.gradient_checkpointing=true"], math.log(2)),
        (["dpo.loss=ipo", f"dpo.beta={BETA}"], (1 / (2 * BETA)) ** 2),
    ],
)
def test_policy_and_reference_are_the_same_at_first(settings: list[str], expected: float, build: Build) -> None:
    assert first_loss(build("dpo", *settings)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("loss", ["sigmoid", "ipo"])
def test_losses_with_a_reference(loss: str, mean: bool, build: Build) -> None:
    stage, sums, means = moved(build, f"dpo.loss={loss}", f"dpo.average_logprobs={mean}")
    margins = (means if mean else sums)[0] - (means if mean else sums)[1]
    assert margins.abs().max() > 1e-2
    wanted = torch.log1p(torch.exp(-BETA * margins)) if loss == "sigmoid" else (margins - 1 / (2 * BETA)) ** 2
    assert first_loss(stage) == pytest.approx(wanted.mean().item(), rel=1e-4)


@pytest.mark.parametrize("loss", ["simpo", "orpo"])
def test_losses_without_a_reference(loss: str, build: Build) -> None:
    stage = build("dpo", f"dpo.loss={loss}", f"dpo.beta={BETA}", "dpo.margin=0.7")
    better, worse = (summed(stage._policies.policy, answers(stage, side))[1] for side in (0, -1))
    if loss == "simpo":
        wanted = torch.log1p(torch.exp(-(BETA * (better - worse) - 0.7)))
    else:
        odds = [p / (1 - p) for p in (better.exp(), worse.exp())]
        wanted = -better + BETA * torch.log1p(odds[1] / odds[0])
    assert first_loss(stage) == pytest.approx(wanted.mean().item(), rel=1e-4)


def test_the_better_answer_can_be_kept_likely(build: Build) -> None:
    plain, kept = (first_loss(build("dpo", f"dpo.sft_coef={weight}")) for weight in (0.0, 0.5))
    stage = build("dpo")
    likelihood = -summed(stage._policies.policy, answers(stage, 0))[1].mean().item()
    assert kept - plain == pytest.approx(0.5 * likelihood, rel=1e-4)


def test_the_reference_does_not_move(build: Build) -> None:
    stage, sums, _ = moved(build, "lora=dim8")
    assert sums.abs().max() > 1e-3
    fresh = build("dpo", "lora=dim8")
    batch = answers(stage, 0)
    with stage._policies.reference() as reference:
        before = summed(reference, batch)[0]
    assert torch.equal(before, summed(fresh._policies.policy, batch)[0])


def test_it_learns_to_prefer_and_says_how_far_it_went(make_run: Callable[..., Run]) -> None:
    settings = ("dpo.max_steps=12", "dpo.warmup_steps=0", "dpo.learning_rate=3e-3", "dpo.epochs=4", "evaluation.examples=64")
    result = chain.execute(make_run("stage=dpo", *settings, "dpo.log_every=1"))
    assert result.status is Status.finished, result.message
    assert {"eval/loss", "eval/accuracy", "rewards/margins", "reward/gold_gain", "baseline/bayes"} <= result.metrics.keys()
    losses = [row["loss"] for row in rows(Path(result.folder) / "metrics.jsonl") if "loss" in row]
    assert losses[0] == pytest.approx(math.log(2), rel=1e-6) and min(losses) < 0.67 and result.metrics["eval/kl"] > 0
    assert "reward/gain" not in result.metrics  # nothing was named that could score the answers


def test_answers_are_scored_where_a_reward_model_is_named(make_run: Callable[..., Run]) -> None:
    judge = chain.execute(make_run("stage=rm"))
    result = chain.execute(make_run("stage=dpo", f"evaluation.reward_model={judge.folder}"))
    assert {"reward/gain", "reward/gain_low", "eval/score_mean"} <= result.metrics.keys()


def test_orpo_needs_no_stage_before_it(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=dpo", "dpo=orpo", "dpo.max_steps=1", "dpo.batch_size=8", "dpo.micro_batch_size=8"))
    assert result.status is Status.finished, result.message
    assert result.parents == {}
