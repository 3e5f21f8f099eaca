"""Over-optimisation beside its exact frontier: a table learns from a score that is the true reward but for one rare action.

    at one KL no policy scores higher than   pi_b(a) = pi_ref(a) exp(b score(a)) / Z,    b >= 0

PPO without a penalty must stay below this frontier while its score rises for ever, walk over the hump of the true reward
(Gao et al. 2022), and `early_stop` must end it near the top: by the truth where it is known, else by a KL that another walk
has shown.
Policy and critic are tables; losses, estimators, engine, loop and selection are those of the stages.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.kl import k1
from rlhf.config import EarlyStopConfig
from rlhf.followed import NEVER
from rlhf.metrics import Mean, Metrics
from rlhf.result import Objective
from rlhf.selection import Selection
from rlhf.stages.interface import Evaluation
from tests.adam import adam
from tests.oracles import test_bandit as bandit
from tests.oracles.tables import Taken, train

REFERENCE = torch.tensor([0.25, 0.22, 0.2, 0.15, 0.12, 0.056, 0.004], dtype=torch.float64)
GOLD = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, -2.0], dtype=torch.float64)
SCORE = torch.tensor([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.4], dtype=torch.float64)
"""Which has everything right but the last action."""
UPDATES, BATCH = 75, 1024
KEPT = 0.9
"""Part of the top that must be left."""


def far(policy: Tensor) -> float:
    """KL to the reference, in nats."""
    return (policy * (policy / REFERENCE).log()).sum().item()


def frontier() -> list[tuple[float, float]]:
    """KL and score of the policies that score highest, from the reference on."""
    policies = ((REFERENCE.log() + b * SCORE).softmax(-1) for b in torch.linspace(0, 60, 3001, dtype=torch.float64))
    return [(far(each), (each * SCORE).sum().item()) for each in policies]


class Hacked(bandit.Bandit):
    """PPO on the score."""

    rounds, log_every, eval_every = UPDATES, UPDATES, 1

    def __init__(self, seed: int) -> None:
        super().__init__(beta=0.0, penalty=k1)
        self._seed = seed
        self.walked: list[tuple[float, float, float]] = []

    def batches(self, first_round: int) -> Iterator[list[Taken]]:
        for update in range(first_round, self.rounds):
            draws = self.rollout(torch.Generator().manual_seed(self._seed * UPDATES + update))
            yield [replace(draws, metrics=Metrics({"objective/kl": Mean(far(self.now()), 1)}))]

    def now(self) -> Tensor:
        """The policy [actions]."""
        return self.policy.rows.detach()[0].double().softmax(-1)

    def evaluate(self, round_: int) -> Evaluation:
        policy = self.now()
        score, gold = (policy * SCORE).sum().item(), (policy * GOLD).sum().item()
        self.walked.append((far(policy), score, gold))
        return Evaluation(Metrics({"reward/gold_gain": Mean(gold - (REFERENCE * GOLD).sum().item(), 1)}))


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("REFERENCE", REFERENCE[None]), ("REWARDS", SCORE[None]), ("CONTEXTS", 1), ("BATCH", BATCH)):
        monkeypatch.setattr(bandit, name, value)


def walk(seed: int, stops: EarlyStopConfig = NEVER) -> list[tuple[float, float, float]]:
    """KL, score and true reward of PPO's policy after each update, the last one included."""
    stage = Hacked(seed)
    spec = adam(adam_eps=1e-5, steps=UPDATES)
    train(stage, spec, Selection(stops, Objective("reward/gold_gain", "maximize"), None))
    stage.evaluate(0)
    return stage.walked


def top(walked: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    return max(walked, key=lambda each: each[2])


def kept(ended: list[tuple[float, float, float]], walked: list[tuple[float, float, float]]) -> float:
    """How far the true reward has risen at the end of ``ended``, of what it rises in ``walked``."""
    start = walked[0][2]
    return (ended[-1][2] - start) / (top(walked)[2] - start)


def test_the_score_rises_and_the_truth_falls_and_no_score_is_above_the_frontier() -> None:
    best, walked = frontier(), walk(0)
    scores, golds = [score for _, score, _ in walked], [gold for *_, gold in walked]
    assert all(later > earlier for earlier, later in zip(scores, scores[1:], strict=False))
    assert max(golds) > golds[0] + 0.4 and golds[-1] < golds[0] - 0.4
    for kl, score, _ in walked:
        highest = next(highest for reached, highest in best if reached >= kl)
        assert score < highest + 1e-6
        assert score > highest - 0.1  # and it is near it


@pytest.mark.parametrize("seed", [1, 2])
def test_early_stop_ends_it_near_the_top(seed: int) -> None:
    walked, limit = walk(seed), top(walk(0))[0]
    by_kl, by_truth = replace(NEVER, max_kl=limit), replace(NEVER, metric="reward/gold_gain", patience=1)
    for stops in (by_kl, by_truth):
        assert kept(walk(seed, stops), walked) > KEPT
    assert kept(walk(seed, replace(NEVER, max_kl=1.5 * limit)), walked) < KEPT  # a looser one is too late
    assert kept(walked, walked) < 0
