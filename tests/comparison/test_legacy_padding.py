"""The loss over padding that DeepSpeed-Chat had until September 2024, and what it does to perplexity.

Its published run of OPT-1.3B starts at a held-out perplexity of 4998 and ends at 1.80: rows of 512 tokens, more than half of
them padding, and all of them counted. A network that never saw padding finds it near impossible, so perplexity starts far
too high; it is the easiest thing to learn, so perplexity ends far too low. Both are reproduced here.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rlhf.algorithms.masks import positions
from rlhf.engine.torch_engine import TorchEngine
from rlhf.stages.batches import Sequences
from rlhf.stages.interface import Stage
from tests.stages import small

CPU = torch.device("cpu")
ROWS = [([1, 5], [6, 2]), ([1], [7, 8, 9, 2]), ([1, 5, 5], [2])]
WIDTH = 128
"""`sft.max_length` of the small runs."""


def build(outputs: Path, *overrides: str) -> Stage:
    settings = ("sft.learning_rate=1e-2", "sft.warmup_steps=0", "sft.schedule=constant", "evaluation.examples=32")
    run = small.make_run(outputs, "stage=sft", "sft.max_steps=60", *settings, *overrides)
    return small.build(run, TorchEngine(run.device, run.precision, run.deterministic), {})


def learnt(stage: Stage, steps: int) -> None:
    """Train ``stage`` for some steps, in whole batches."""
    small.learn(stage, small.record(stage, steps), 1000)


@torch.no_grad()
def counted(stage: Stage, batch: Sequences) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood [B, T - 1] of each token after the first, worked out from the network's logits, and which are
    padding."""
    network = stage.export()[0].eval()
    inputs = {"attention_mask": batch.mask.long(), "position_ids": positions(batch.mask)}
    logits = network(input_ids=batch.ids, **inputs).logits[:, :-1]
    losses = cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    return losses.view(batch.ids[:, 1:].shape), ~batch.mask[:, 1:]


def perplexity(stage: Stage) -> float:
    return stage.evaluate(0).metrics["eval/perplexity"].value


def test_padding_becomes_a_target_up_to_the_width_asked_for() -> None:
    batch = Sequences.of(ROWS, 0, CPU).with_padding_learnt(0, 6)
    assert batch.ids.tolist() == [[1, 5, 6, 2, 0, 0], [1, 7, 8, 9, 2, 0], [1, 5, 5, 2, 0, 0]]
    assert batch.targets.int().tolist() == [[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]
    assert batch.mask.sum(1).tolist() == [4, 5, 4]  # attention never looks at padding, there and here


@pytest.mark.parametrize("size", [1, 2])
def test_micro_batches_keep_the_padding_that_is_learnt(size: int) -> None:
    batch = Sequences.of(ROWS, 0, CPU).with_padding_learnt(0, 6)
    assert sum(part.weight for part in batch.split(size)) == batch.weight == 12


def test_the_loss_is_the_cross_entropy_of_every_token_there_is(tmp_path: Path) -> None:
    stage = build(tmp_path, "sft.legacy_padding_loss=true", "sft.targets=all")
    (batch,) = small.record(stage, 1)
    assert batch.ids.shape[1] == WIDTH and batch.weight == len(batch.ids) * (WIDTH - 1)
    losses, padding = counted(stage, batch)
    assert padding.float().mean() > 0.5
    mean = stage.loss(batch)[0]["policy"].item() / batch.weight
    assert mean == pytest.approx(losses.mean().item(), rel=1e-4)


def test_without_the_switch_nothing_of_it_is_there(tmp_path: Path) -> None:
    (batch,) = small.record(build(tmp_path), 1)
    assert batch.ids.shape[1] < WIDTH and not (batch.targets & ~batch.mask).any()


@dataclass(frozen=True)
class Course:
    """A network that learnt without padding, measured with padding counted, and again after it learnt padding."""

    text: float
    """Held-out perplexity of its answers."""
    start: float
    """The same with padding counted."""
    end: float
    """That after it learnt padding."""
    loss: float
    """Its loss of a training batch with padding counted."""
    predicted: float
    """The same from what answers and padding cost apart, each by how often it is there."""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    before = build(tmp_path_factory.mktemp("before"))
    learnt(before, 40)
    legacy = build(tmp_path_factory.mktemp("legacy"), "sft.legacy_padding_loss=true")
    legacy.export()[0].load_state_dict(before.export()[0].state_dict())
    (batch,) = small.record(legacy, 1)
    losses, padding = counted(legacy, batch)
    answers = batch.targets[:, 1:] & ~padding
    share = padding.sum() / (padding | answers).sum()
    predicted = (1 - share) * losses[answers].mean() + share * losses[padding].mean()
    loss, start = legacy.loss(batch)[0]["policy"].item() / batch.weight, perplexity(legacy)
    learnt(legacy, 40)
    return Course(perplexity(before), start, perplexity(legacy), loss, predicted.item())


def test_perplexity_starts_far_too_high_and_ends_far_too_low(course: Course) -> None:
    assert course.text < 5
    assert course.start > 100 * course.text
    assert 1 < course.end < 0.7 * course.text


def test_the_start_is_what_padding_costs_by_how_much_of_it_there_is(course: Course) -> None:
    assert course.loss == pytest.approx(course.predicted, rel=1e-4)
