"""PPO finds the shortest ways: random walks on a graph, after trlX's benchmark, with a table for a policy.

A response is a walk of up to nine nodes, so many tokens of several lengths share one score, which stands on the last. All
else is what the stages use: `token_rewards`, `gae`, `whiten`, the clipped losses, the engine and the one loop. What the
policy is worth is not sampled but worked out: the chance to be at each node after each step, and the optimality of arriving.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rlhf.algorithms.advantages import gae, token_rewards
from rlhf.algorithms.masks import whiten
from rlhf.rollout.sample import draw
from tests.adam import adam
from tests.oracles.tables import Tabular, Taken, train
from tests.oracles.worlds import EDGES, GOAL, LONGEST, NAMES, NODES, SHORTEST, optimality

UPDATES, BATCH, INNER_EPOCHS, MINIBATCHES = 60, 400, 2, 2
STEPS = LONGEST - 1
START = torch.tensor([[0.0 if to in EDGES[node] else -5.0 for to in NAMES] for node in NAMES])
"""Logits [from, to] of a walker that takes each edge alike, and a way that is none every now and then."""


class Walker(Tabular):
    """An action is the node to go to, and its place the node before, or the start."""

    rounds, micro_batch_size, log_every = UPDATES, 200, UPDATES

    def __init__(self, blind: bool) -> None:
        super().__init__(START, STEPS)
        self._blind = blind

    def batches(self, first_round: int) -> Iterator[list[Taken]]:
        for update in range(first_round, self.rounds):
            drawing = torch.Generator().manual_seed(update)
            walks = self.rollout(drawing)
            orders = (torch.randperm(BATCH, generator=drawing) for _ in range(INNER_EPOCHS))
            yield [walks.select(rows) for order in orders for rows in order.split(BATCH // MINIBATCHES)]

    @torch.no_grad()
    def rollout(self, drawing: torch.Generator) -> Taken:
        starts = 1 + torch.arange(BATCH) % (NODES - 1)
        here, going = starts, torch.ones(BATCH, dtype=torch.bool)
        nodes, origins, mask = [], [], []
        for _ in range(STEPS):
            taken = draw(self.policy.rows[here], torch.rand(BATCH, generator=drawing), temperature=1.0, top_p=1.0).tokens
            for kept, each in ((nodes, taken), (origins, here), (mask, going)):
                kept.append(each)
            here = torch.where(going, taken, here)
            going = going & (here != NAMES.index(GOAL))
        walked, origin, true = (torch.stack(each, 1) for each in (nodes, origins, mask))
        named = ([NAMES[node] for node in row[kept].tolist()] for row, kept in zip(walked, true, strict=True))
        scores = torch.tensor([optimality(NAMES[start], walk) for start, walk in zip(starts.tolist(), named, strict=True)])
        rewards = token_rewards(scores * (not self._blind), torch.zeros(BATCH, STEPS), true, kl_coef=0.0)
        values = self.values(origin)
        advantages, returns = gae(rewards, values, true, gamma=1.0, lam=0.95)
        return Taken(origin, walked, true, self.logprobs(origin, walked), values, whiten(advantages, true), returns)


def learned(blind: bool = False) -> Tensor:
    """The logits [from, to] that PPO ends with; ``blind``: it is never told a score."""
    stage = Walker(blind)
    spec = adam(adam_eps=1e-5, steps=UPDATES * INNER_EPOCHS * MINIBATCHES)
    train(stage, spec)
    return stage.policy.rows.detach()


def worth(logits: Tensor) -> float:
    """Expected optimality of a walk from a node drawn alike from all but the goal, exactly."""
    ways = logits.double().softmax(-1)
    ways = ways * torch.tensor([[to in EDGES[node] for to in NAMES] for node in NAMES])  # who leaves the graph gets nothing
    total = 0.0
    for start in NAMES[1:]:
        at = torch.zeros(NODES, dtype=torch.float64)
        at[NAMES.index(start)] = 1.0
        for step in range(1, STEPS + 1):
            at = at @ ways
            total += at[0].item() * (LONGEST - step) / (LONGEST - SHORTEST[start])
            at[0] = 0.0  # it has arrived
    return total / (NODES - 1)


def test_the_shortest_ways_are_worth_one() -> None:
    best = torch.full((NODES, NODES), -50.0)
    for node in NAMES[1:]:
        best[NAMES.index(node), NAMES.index(min(EDGES[node], key=SHORTEST.__getitem__))] = 50.0
    assert worth(best) == pytest.approx(1.0)


def test_ppo_finds_the_shortest_ways() -> None:
    assert worth(START) < 0.5
    assert worth(learned()) > 0.97


def test_without_a_score_it_finds_nothing() -> None:
    assert worth(learned(blind=True)) == pytest.approx(worth(START), abs=0.1)
