"""The reward model's loss against the exact answer: preferences drawn by Bradley and Terry from a reward that is known.

Each answer has four features and a length. People prefer a to b with probability sigmoid(r(a) - r(b)), with r linear in the
features; in the biased world r also pays BIAS for each standard deviation of length. The scorer is linear, so the loss, the
engine and the one loop must find r itself, and with it

    accuracy      that of the best possible scorer, E[max(p, 1 - p)], within the 99.9 % interval of the pairs it is measured on
    probabilities as observed: a small expected calibration error
    length        `eval/length_correlation` of the truth: 0 without the bias, and what was put in with it
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pytest
import torch
from torch import Tensor, nn

from rlhf import loop
from rlhf.algorithms.losses import pairwise_loss
from rlhf.calibration import expected_error, uncentred_correlation
from rlhf.config import Device, Precision, Schedule
from rlhf.data.records import Example, Turn
from rlhf.engine.base import Trainable
from rlhf.engine.torch_engine import TorchEngine
from rlhf.metrics import Metrics
from rlhf.stages.comparison import calibration
from rlhf.stages.interface import Evaluation
from tests.adam import adam
from tests.silent import Silent

TRUTH = torch.tensor([1.0, -0.6, 0.3, 0.0], dtype=torch.float64)
BIAS = 0.5
LEARNT, HELD_OUT, BATCH, EPOCHS = 8000, 20_000, 1000, 12
NORMAL_999 = 3.291
"""Standard deviations of the two-sided 99.9 % interval."""


@dataclass(frozen=True)
class Pairs:
    """P pairs in the order people prefer: [P, 5] features of the better and of the worse answer, the last one their length."""

    better: Tensor
    worse: Tensor
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        return len(self.better)

    def split(self, size: int) -> list["Pairs"]:
        return [Pairs(*each) for each in zip(self.better.split(size), self.worse.split(size), strict=True)]

    @cached_property
    def apart(self) -> Tensor:
        return self.better - self.worse


def world(bias: float) -> Tensor:
    """What the true reward pays for each feature, and for length."""
    return torch.cat([TRUTH, torch.tensor([bias], dtype=torch.float64)])


def judged(count: int, bias: float, seed: int) -> Pairs:
    drawing = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, 5, generator=drawing, dtype=torch.float64) for _ in range(2))
    wins = torch.rand(count, generator=drawing, dtype=torch.float64) < ((first - second) @ world(bias)).sigmoid()
    return Pairs(torch.where(wins[:, None], first, second), torch.where(wins[:, None], second, first))


def bayes(pairs: Pairs, bias: float) -> float:
    """The accuracy of who knows the true reward, on average over what people might have said of these pairs."""
    return (pairs.apart @ world(bias)).abs().sigmoid().mean().item()


Loss = Callable[[Tensor, Tensor], Tensor]


def bradley_terry(better: Tensor, worse: Tensor) -> Tensor:
    return pairwise_loss(better, worse, torch.ones_like(better))


class Scoring:
    """A linear scorer, in the shape of a stage."""

    micro_batch_size, log_every, eval_every, save_every = 400, 1000, 0, 0
    rounds = EPOCHS * LEARNT // BATCH
    rounds_per_epoch, eval_every_epoch = None, False

    def __init__(self, pairs: Pairs, loss: Loss) -> None:
        self._pairs, self._loss = pairs, loss
        self.scorer = nn.Linear(5, 1, bias=False)
        nn.init.zeros_(self.scorer.weight)

    def batches(self, first_round: int) -> Iterator[list[Pairs]]:
        for round_ in range(first_round, self.rounds):
            rows = torch.randperm(LEARNT, generator=torch.Generator().manual_seed(round_ * BATCH // LEARNT))
            part = rows[round_ * BATCH % LEARNT :][:BATCH]
            yield [Pairs(self._pairs.better[part].float(), self._pairs.worse[part].float())]

    def loss(self, batch: Pairs) -> tuple[dict[str, Tensor], Metrics]:
        better, worse = (self.scorer(each).squeeze(1) for each in (batch.better, batch.worse))
        return {"reward_model": self._loss(better, worse)}, Metrics()

    def evaluate(self, round_: int) -> Evaluation:
        return Evaluation(Metrics())


def learned(bias: float, loss: Loss = bradley_terry) -> Tensor:
    """What the scorer pays for each feature and for length, once it has learnt."""
    stage = Scoring(judged(LEARNT, bias, seed=1), loss)
    spec = adam(schedule=Schedule.linear, steps=stage.rounds)
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
    engine.prepare({"reward_model": Trainable(stage.scorer, spec)})
    loop.train(stage, engine, Silent(), seed=0)  # type: ignore[arg-type]  # it has no parents, artifact or configuration
    return stage.scorer.weight.detach()[0].double()


@pytest.fixture(scope="module")
def scorers() -> dict[float, Tensor]:
    return {bias: learned(bias) for bias in (0.0, BIAS)}


def texts(pairs: Pairs) -> list[Example]:
    """Pairs as texts whose lengths differ as theirs do, in hundredths of a standard deviation of length."""
    found = []
    for better, worse in itertools.islice(zip(pairs.better[:, 4].tolist(), pairs.worse[:, 4].tolist(), strict=True), 4000):
        lengths = (round(100 * (6 + each)) for each in (better, worse))
        found.append(Example((Turn("user", "a question"),), *("x" * length for length in lengths), "test"))
    return found


@pytest.mark.parametrize("bias", [0.0, BIAS])
def test_the_true_reward_is_found(bias: float, scorers: dict[float, Tensor]) -> None:
    """Within the 99.9 % interval of maximum likelihood, from the Fisher information of the pairs."""
    pairs = judged(LEARNT, bias, seed=1)
    sure = (pairs.apart @ world(bias)).sigmoid()
    information = pairs.apart.T @ (pairs.apart * (sure * (1 - sure))[:, None])
    deviation = information.inverse().diagonal().sqrt()
    assert ((scorers[bias] - world(bias)).abs() < NORMAL_999 * deviation).all()


@pytest.mark.parametrize("bias", [0.0, BIAS])
def test_accuracy_is_as_high_as_it_can_be(bias: float, scorers: dict[float, Tensor]) -> None:
    pairs = judged(HELD_OUT, bias, seed=2)
    best, accuracy = bayes(pairs, bias), (pairs.apart @ scorers[bias] > 0).double().mean().item()
    assert abs(accuracy - best) < NORMAL_999 * (best * (1 - best) / HELD_OUT) ** 0.5


@pytest.mark.parametrize("bias", [0.0, BIAS])
def test_probabilities_are_as_observed(bias: float, scorers: dict[float, Tensor]) -> None:
    margins = (judged(HELD_OUT, bias, seed=2).apart @ scorers[bias]).tolist()
    assert expected_error(margins) < 0.015
    assert expected_error([2 * each for each in margins]) > 0.05  # one that is too sure would be seen


@pytest.mark.parametrize("bias", [0.0, BIAS])
def test_the_length_bias_is_what_was_put_in(bias: float, scorers: dict[float, Tensor]) -> None:
    """The metric of stage `rm`; of the truth it is BIAS over the norm of all that the reward pays for."""
    pairs = judged(HELD_OUT, bias, seed=2)
    margins = (pairs.apart @ scorers[bias]).tolist()[:4000]
    told = calibration(texts(pairs), margins)["eval/length_correlation"].value
    truth = (world(bias)[4] / world(bias).norm()).item()
    assert told == pytest.approx(truth, abs=NORMAL_999 / 4000**0.5)
    lengths = pairs.apart[:4000, 4].tolist()
    assert told == pytest.approx(uncentred_correlation(margins, lengths) or 0.0, abs=1e-3)  # texts are rounded
    assert scorers[bias][4].item() == pytest.approx(bias, abs=0.1)


MISTAKES: dict[str, Loss] = {
    "better and worse are swapped": lambda better, worse: bradley_terry(worse, better),
    "the squared error of the margin": lambda better, worse: (1 - (better - worse)).square().sum(),
    "only the better answer counts": lambda better, worse: bradley_terry(better, worse.detach() * 0),
    "the margin is halved": lambda better, worse: bradley_terry(0.5 * better, 0.5 * worse),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_seen(mistake: str) -> None:
    assert (learned(BIAS, MISTAKES[mistake]) - world(BIAS)).abs().max() > 0.25
