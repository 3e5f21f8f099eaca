"""KTO on a small real stage: loss and reference point are what their formulas say of log-probabilities worked out apart."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.config import Run
from rlhf.models.forward import token_logprobs
from rlhf.report.folder import rows
from rlhf.result import Status
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.comparison import separation
from rlhf.stages.interface import Stage
from rlhf.stages.kto import KTO
from rlhf.stages.labelled import Labelled, mismatched
from tests.stages.small import learn, record, tokens

BETA = 0.4
Build = Callable[..., Stage]


def log_ratios(stage: KTO, answers: list[Tokens]) -> torch.Tensor:
    """Of the policy to its reference, each answer read alone."""
    batches = [Sequences.of([each], stage._tokenizer.pad_token_id, torch.device("cpu")) for each in answers]
    with torch.no_grad(), stage._policies.reference() as reference:
        sums = [
            [token_logprobs(network, each.ids, each.mask, each.targets)[0].sum().item() for each in batches]
            for network in (stage._policies.policy, reference)
        ]
    return torch.tensor(sums[0]) - torch.tensor(sums[1])


def moved(build: Build, *overrides: str) -> KTO:
    """A stage after three updates."""
    stage = build("kto", "kto.warmup_steps=0", "kto.learning_rate=1e-2", f"kto.beta={BETA}", *overrides)
    learn(stage, record(stage, 3), 8)
    return stage


@pytest.mark.slow
@pytest.mark.parametrize("settings", [[], ["lora=dim8"], ["kto.gradient_checkpointing=true"], ["kto.reference_point=zero"]])
def test_policy_and_reference_are_the_same_at_first(settings: list[str], build: Build) -> None:
    """So h = z = 0, every value is a half, and the loss is half of the weights."""
    stage = build("kto", "kto.desirable_weight=1.2", "kto.undesirable_weight=0.8", *settings)
    (batch,) = record(stage, 1)
    labels = ["good" if label else "bad" for label in batch.good[:2].tolist()]
    assert [note.partition(":")[0] for note in stage.notes[-2:]] == [f"row {at}, {label}" for at, label in enumerate(labels, 1)]
    losses, metrics = stage.loss(batch)
    good = batch.good.float().mean().item()
    assert batch.point == 0 and 0 < good < 1
    assert losses["policy"].item() / batch.weight == pytest.approx(0.5 * (1.2 * good + 0.8 * (1 - good)), rel=1e-6)
    assert metrics["rewards/accuracies"].value == 0.5


@pytest.mark.parametrize("reference_point", ["batch", pytest.param("zero", marks=pytest.mark.slow)])
def test_loss_and_reference_point_by_hand(reference_point: str, build: Build) -> None:
    stage = moved(build, f"kto.reference_point={reference_point}", "kto.desirable_weight=1.2", "kto.undesirable_weight=0.8")
    (batch,) = record(stage, 1)
    answers, good = tokens(batch.answers), batch.good
    point = 0.0
    if reference_point == "batch":
        following = [(prompt, answers[(index + 1) % len(answers)][1]) for index, (prompt, _) in enumerate(answers)]
        assert len({tuple(prompt) for prompt, _ in answers}) == len(answers)  # or another row's answer would be taken
        point = max(0.0, log_ratios(stage, following).mean().item())
        assert point > 1e-2
    assert batch.point == pytest.approx(point, rel=1e-4)
    ratios = log_ratios(stage, answers)
    values = torch.where(good, BETA * (ratios - point), BETA * (point - ratios)).sigmoid()
    weights = torch.where(good, 1.2, 0.8)
    losses, metrics = stage.loss(batch)
    assert losses["policy"].item() == pytest.approx((weights * (1 - values)).sum().item(), rel=1e-4)
    assert metrics["rewards/chosen"].value == pytest.approx(BETA * ratios[good].mean().item(), rel=1e-3, abs=1e-5)
    assert metrics["rewards/accuracies"].value == pytest.approx((values > 0.5).float().mean().item())
    if reference_point == "batch":
        belongs_to_the_whole_batch(stage, batch)


def belongs_to_the_whole_batch(stage: KTO, batch: Labelled) -> None:
    """However many rows are held at once; the point of each part of the batch, as of a micro-batch, is another one."""
    answers = tokens(batch.answers)
    points = [stage.reference_point(answers, size) for size in (1, 3, 8)]
    assert points == pytest.approx([batch.point] * 3, rel=1e-5)
    assert [part.point for part in batch.split(2)] == [batch.point] * 4
    parts = [stage.reference_point(answers[first : first + 2], 2) for first in range(0, 8, 2)]
    assert max(abs(part - batch.point) for part in parts) > 0.1 * batch.point


def test_the_reference_point_moves_with_the_policy_and_takes_no_gradient(build: Build) -> None:
    stage = build("kto", "kto.warmup_steps=0", "kto.learning_rate=1e-2")
    later = stage.batches(0)
    points = []
    for _ in range(3):
        (batch,) = next(later)
        points.append(batch.point)
        learn(stage, [batch], 8)
    assert points[0] == 0 and points[2] > 1e-3  # one of the policy as it was at the start would stay 0


def test_a_prompt_meets_the_answer_of_another_one() -> None:
    rows = [([1, 5], [2]), ([1, 5], [3]), ([1, 6, 7, 8], [4, 4])]
    assert mismatched(rows, 99, None) == [([1, 5], [4, 4]), ([1, 5], [4, 4]), ([1, 6, 7, 8], [2])]
    assert mismatched(rows, 4, 1)[2] == ([1, 7, 8], [2])  # cut in front, behind the begin token
    assert mismatched(rows[:2], 99, None) == mismatched([], 99, None) == []


def test_separation_is_the_share_of_couples_in_order() -> None:
    assert separation(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0, -1.0])) == pytest.approx((3 + 0.5 + 1) / 6)


def test_it_learns_to_tell_apart_and_says_how_far_it_went(make_run: Callable[..., Run]) -> None:
    settings = ("kto.max_steps=12", "kto.warmup_steps=0", "kto.learning_rate=3e-3", "kto.epochs=4", "evaluation.examples=64")
    result = chain.execute(make_run("stage=kto", *settings, "kto.log_every=1"))
    assert result.status is Status.finished, result.message
    assert {"eval/loss", "eval/auc", "eval/accuracy", "reward/gold_gain", "baseline/bayes"} <= result.metrics.keys()
    told = [row for row in rows(Path(result.folder) / "metrics.jsonl") if "loss" in row]
    assert told[0]["loss"] == pytest.approx(0.5, rel=1e-6) and min(row["loss"] for row in told) < 0.48
    assert told[0]["kto/reference_point"] == 0 and result.metrics["eval/kl"] > 0


def test_labels_of_a_file_are_learnt(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Answers that only have a label, in a file, with no stage before: no accuracy of pairs, but one of couples."""
    path = tmp_path / "votes.jsonl"
    votes = [{"prompt": f"Is it {n} far?", "completion": "Yes." if n % 3 else "No.", "label": n % 3 != 0} for n in range(90)]
    path.write_text("\n".join(map(json.dumps, votes)))
    local = ("data=local", f"data.sources.mine.path={path}", "data.sources.mine.stages=[rm]")
    result = chain.execute(
        make_run("stage=kto", *local, "kto.init=base", "kto.max_steps=8", "kto.learning_rate=3e-3", "kto.epochs=8")
    )
    assert result.status is Status.finished, result.message
    assert result.metrics["eval/auc"] == 1 and "eval/accuracy" not in result.metrics
