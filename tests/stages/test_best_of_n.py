"""Best of n on small real stages: what is kept, what it teaches, who is asked, and what is left behind."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlhf import chain, loop
from rlhf.config import SampleFrom
from rlhf.data.records import Turn
from rlhf.engine.torch_engine import TorchEngine
from rlhf.result import Status
from rlhf.rewards.scale import Scale
from rlhf.stages.batches import Tokens
from rlhf.stages.best_of_n import BestOfN
from rlhf.stages.paired import best_of_gains
from tests.stages import small
from tests.stages.small import learn, record, weights

RULE = ("reward=function", "reward.function=length", "reward.target_words=5", "evaluation.prompts=4")
Scores = Callable[[int], list[float]]


@pytest.fixture(scope="module")
def built(forebears: Path) -> BestOfN:
    """The stage after a parent of two steps, at a temperature of its own."""
    words = (*RULE, "rollout.temperature=0.7", "best_of_n.learning_rate=1e-2")
    run = small.make_run(forebears, "stage=best_of_n", *words)
    engine = TorchEngine(run.device, run.precision, run.deterministic)
    stage = small.build(run, engine, small.train_parents(forebears, run))
    assert isinstance(stage, BestOfN)
    return stage


def other(stage: BestOfN, scores: Scores | None = None, **settings: object) -> BestOfN:
    """The same networks with other settings, and a reward that gives so many responses these scores."""
    changed, changed._online = copy.copy(stage), copy.copy(stage._online)
    changed._config = changed._online._config = replace(stage._config, **settings)
    changed._rows = []
    if scores is not None:
        changed._online.scale = Scale()
        changed._online._reward = SimpleNamespace(score=lambda examples, texts, rows: torch.tensor(scores(len(rows))))
    return changed


def test_the_best_response_to_each_prompt_is_kept(built: BestOfN) -> None:
    stage = other(built, lambda count: [1.0, 5.0, 2.0, 9.0, 4.0, 3.0][:count], n=3)
    prompts = stage._online._prompts[:2]
    kept = stage.gather(prompts, "rollout/0")
    sampled, _ = stage._online.sample([prompt for prompt in prompts for _ in range(3)], "rollout/0", from_start=True)
    assert kept.rows == [sampled[1], sampled[3]] and sampled[0] != sampled[1]
    assert kept.raw.tolist() == [5.0, 9.0] and kept.found.all()
    assert kept.metrics["signs/kept_error"].value == 0
    assert kept.metrics["objective/kept_scores"].value > kept.metrics["objective/scores"].value


def test_the_loss_is_that_of_fine_tuning_on_what_is_kept(built: BestOfN) -> None:
    (batch,) = record(built, 1)
    loss, _ = built.loss(batch)
    total = 0.0
    with torch.no_grad():
        for ids, mask, targets in zip(batch.ids, batch.mask, batch.targets, strict=True):
            logits = built.export()[0](input_ids=ids[mask][None]).logits[0] / 0.7
            own = logits.log_softmax(-1)[:-1].gather(1, ids[mask][1:, None]).squeeze(1)
            total -= own[targets[mask][1:]].sum().item()
    assert loss["policy"].item() == pytest.approx(total, rel=1e-4)
    assert batch.weight == batch.targets.sum()


def test_a_prompt_without_a_response_to_keep_teaches_nothing(built: BestOfN) -> None:
    """It stays in the batch, so that all ranks have as many rows, and weighs nothing."""
    stage = other(built, lambda count: ([0.0, 0.0, 0.0, 1.0] * count)[:count], min_score=1.0)
    (batch,) = record(stage, 1)
    assert len(batch.ids) == 8 and batch.targets.any(1).sum() == 4
    assert batch.metrics["objective/kept"].value == 0.5
    parts = [(part.weight > 0, stage.loss(part)[0]["policy"].item()) for part in batch.split(1)]
    assert sorted(learnt for learnt, _ in parts) == [False] * 4 + [True] * 4
    assert all((loss > 0) is learnt for learnt, loss in parts)
    assert stage.loss(batch)[0]["policy"].item() == pytest.approx(sum(loss for _, loss in parts), rel=1e-4)
    before, steps = weights(stage), stage._setting.engine.steps
    learn(stage, [batch], 1)
    assert any(not torch.equal(before[name], tensor) for name, tensor in weights(stage).items())
    assert stage._setting.engine.steps == steps + 1


def test_where_nothing_is_kept_no_step_is_taken(built: BestOfN) -> None:
    stage = other(built, lambda count: [1.0] * count, min_score=2.0)
    before, steps = weights(stage), stage._setting.engine.steps
    told = loop.learn(stage, stage._setting.engine, next(stage.batches(0)), 0)
    assert told["objective/kept"].value == 0 and not {"loss", "signs/kept_error"} & told.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(stage).items())
    assert stage._setting.engine.steps == steps and stage.take_rows() == []


def test_only_ended_responses_are_kept_if_asked(built: BestOfN) -> None:
    stage = other(built, lambda count: [float(index) for index in range(count)], n=4, ended_only=True)
    ended = torch.tensor([False, True, True, False] + [False] * 4)
    stage._online.scores = lambda raw, rows: (raw, ended, {})
    kept = stage.gather(stage._online._prompts[:2], "rollout/0")
    assert kept.found.tolist() == [True, False] and kept.raw[0] == 2
    assert kept.metrics["signs/kept_error"].value == 0  # though the last response scores higher


def test_who_answers(built: BestOfN) -> None:
    prompts = built._online._prompts[:4]

    def answers(asked: SampleFrom) -> list[Tokens]:
        return other(built, sample_from=asked).gather(prompts, "rollout/0").rows

    before = {asked: answers(asked) for asked in SampleFrom}
    with torch.no_grad():
        for parameter in built.trainable()["policy"].module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    assert {asked: answers(asked) == before[asked] for asked in SampleFrom} == {
        SampleFrom.start: True,
        SampleFrom.current: False,
    }


def test_what_the_best_of_n_gains_by_hand() -> None:
    scores, gold = torch.tensor([[0.0, 1.0], [2.0, 6.0]]), torch.tensor([[3.0, 1.0], [0.0, 4.0]])
    gained = {name: metric.value for name, metric in best_of_gains(scores, gold, deviation=2.0).items()}
    assert gained["best_of/gain"] == pytest.approx((0.5 + 2) / 2 / 2)
    assert gained["best_of/gold_gain"] == pytest.approx((-1 + 2) / 2)
    assert gained["best_of/kl_bound"] == pytest.approx(0.1931, abs=1e-4)
    more = best_of_gains(torch.rand(3, 12), None, deviation=1.0)
    assert [name for name in more if name.startswith("best_of/gain/")] == ["best_of/gain/2", "best_of/gain/4", "best_of/gain/8"]
    assert more["best_of/gain_low/2"].value < more["best_of/gain/2"].value < more["best_of/gain/8"].value


@pytest.mark.parametrize("asked", ["start", pytest.param("current", marks=pytest.mark.slow)])
def test_a_run_leaves_demonstrations_that_anybody_can_learn_from(asked: str, forebears: Path, tmp_path: Path) -> None:
    run = small.make_run(forebears, "stage=best_of_n", f"best_of_n.sample_from={asked}", *RULE)
    result = chain.execute(run)
    assert result.status is Status.finished, result.message
    assert result.metrics["best_of/gain"] > 0 and "reward/gain_low" in result.metrics
    file = Path(result.folder) / "kept.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["round"] for row in rows] == [1] * 8 + [2] * 8 and {row["n"] for row in rows} == {2}

    mine = ("data=local", f"data.sources.mine.path={file}", "data.sources.mine.stages=[sft]")
    corpus = chain.load_corpus(small.make_run(tmp_path, "stage=sft", *mine))
    read = {(example.turns, example.response) for part in ("train", "held_out") for example in corpus.parts["sft", part]}
    assert read == {(turns(row), row["response"].strip()) for row in rows}


def turns(row: dict[str, Any]) -> tuple[Turn, ...]:
    return tuple(Turn(said["role"], said["content"]) for said in row["prompt"])
