"""The reward model's switches, on a small real stage: each loss learns from what it needs, and pooling goes with the model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.config import Run
from rlhf.data.corpus import Corpus
from rlhf.data.records import Example, Turn
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.models.load import load_scorer
from rlhf.models.tokenizer import load_tokenizer
from rlhf.rewards.model import pooled_scores, score
from rlhf.stages.comparison import kendall_tau
from rlhf.stages.interface import Setting, Stage
from rlhf.stages.rm import RewardModel
from tests.stages import small

WORDS = ("bakery", "harbour", "library", "museum", "castle", "theatre", "Monday", "Tuesday")


def example(number: int, answers: int = 4, **known: float) -> Example:
    ranking = tuple(f"{WORDS[(number + rank) % 8]} number {number} {rank}" for rank in range(answers))
    worst = ranking[-1] if answers > 1 else None
    listed = ranking if answers > 2 else ()
    return Example((Turn("user", f"question {number}"),), ranking[0], worst, "mine", ranking=listed, **known)


@pytest.fixture
def stage(make_run: Callable[..., Run], forebears: Path) -> Callable[..., RewardModel]:
    """A reward model on given examples, its SFT parent trained on the demo."""

    def make(examples: list[Example], *overrides: str) -> RewardModel:
        run = make_run("stage=rm", *overrides)
        corpus = chain.load_corpus(run)
        parts = dict(corpus.parts) | {("rm", "train"): examples, ("rm", "held_out"): examples[:6]}
        own = replace(corpus, parts=parts, weights={"mine": 1.0, **corpus.weights})
        assert isinstance(own, Corpus)
        engine = TorchEngine(run.device, run.precision, run.deterministic)
        return RewardModel(Setting(run, own, engine, small.train_parents(forebears, run)))

    return make


def first_loss(stage: RewardModel) -> tuple[float, list[float]]:
    """The loss of the first batch as the loop divides it, and the scores of its answers as they are listed."""
    ((batch,),) = [next(stage.batches(0))]
    losses, _ = stage.loss(batch)
    pad, answers = stage._tokenizer.pad_token_id, [each for row in batch.rows for each in row.answers]
    return losses["reward_model"].item() / batch.weight, score(stage._scorer, answers, pad, stage._setting.engine, 64).tolist()


def lists(scores: list[float], size: int) -> torch.Tensor:
    return torch.tensor(scores).view(-1, size)


def test_every_pair_of_a_list_counts(stage: Callable[..., RewardModel]) -> None:
    loss, scores = first_loss(stage([example(n) for n in range(40)]))
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    expected = (
        sum(-torch.nn.functional.logsigmoid(lists(scores, 4)[:, i] - lists(scores, 4)[:, j]).mean() for i, j in pairs) / 6
    )
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_best_of_the_list(stage: Callable[..., RewardModel]) -> None:
    loss, scores = first_loss(stage([example(n) for n in range(40)], "rm.loss=ce"))
    assert loss == pytest.approx(-lists(scores, 4).log_softmax(1)[:, 0].mean().item(), rel=1e-5)


def test_a_margin_is_asked_for(stage: Callable[..., RewardModel]) -> None:
    loss, scores = first_loss(stage([example(n, 2, margin=1.5) for n in range(40)], "rm.loss=margin"))
    gaps = lists(scores, 2)[:, 0] - lists(scores, 2)[:, 1]
    assert loss == pytest.approx(-torch.nn.functional.logsigmoid(gaps - 1.5).mean().item(), rel=1e-5)
    with pytest.raises(Fault, match=r"rm\.loss=margin: no row says"):
        stage([example(n, 2) for n in range(40)], "rm.loss=margin")


def test_ratings_of_single_answers(stage: Callable[..., RewardModel]) -> None:
    rated = stage([example(n, 1, rating=float(n % 2)) for n in range(40)], "rm.loss=mse")
    ((batch,),) = [next(rated.batches(0))]
    loss, scores = first_loss(rated)
    assert loss == pytest.approx(((torch.tensor(scores) - batch.ratings) ** 2).mean().item(), rel=1e-5)
    assert {"eval/rating_mse", "eval/loss", "signs/padding_error"} == set(rated.evaluate(0).metrics)
    with pytest.raises(Fault, match=r"rm\.loss=pairwise: no row has a second answer.* or rm\.loss=mse"):
        stage([example(n, 1, rating=float(n % 2)) for n in range(40)])
    with pytest.raises(Fault, match=r"rm\.loss=mse: no row has a rating"):
        stage([example(n) for n in range(40)], "rm.loss=mse")


def test_lists_are_measured_by_rank_correlation(stage: Callable[..., RewardModel]) -> None:
    metrics = stage([example(n) for n in range(40)]).evaluate(0).metrics
    assert -1 <= metrics["eval/kendall_tau"].value <= 1 and metrics["eval/pairs/mine"].value == 6
    assert kendall_tau([3.0, 2.0, 1.0]) == 1 and kendall_tau([1.0, 2.0]) == -1
    assert kendall_tau([2.0, 3.0, 1.0]) == pytest.approx(1 / 3)  # two of three pairs in order


def test_mean_pooling_goes_with_the_model(make_run: Callable[..., Run]) -> None:
    result = chain.execute(make_run("stage=rm", "rm.pooling=mean"))
    run = make_run("stage=rm")
    assert result.artifact is not None
    tokenizer = load_tokenizer(run.reward_model, (), Path(result.artifact))
    loaded = load_scorer(run.reward_model, tokenizer, Path(result.artifact), 0, fresh_head=False)
    scores, mask = torch.tensor([[1.0, 3.0, 100.0]]), torch.tensor([[True, True, False]])
    assert pooled_scores(loaded, scores, mask).tolist() == [2.0]
    loaded.config.score_pooling = "last"
    assert pooled_scores(loaded, scores, mask).tolist() == [3.0]


def test_ppo_takes_a_mean_pooled_reward_model(build: Callable[..., Stage]) -> None:
    ppo = build("ppo", "rm.pooling=mean")
    assert ppo._networks.reward.scorer.config.score_pooling == "mean"
    assert next(next(ppo.batches(0))).metrics["objective/scores"].value != 0
