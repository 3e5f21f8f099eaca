"""DeepSpeed-Chat's formulas, as its documentation and code describe them (deepspeedai/DeepSpeedExamples at 45b4b715), written
anew with plain numbers, against `ppo=ds_chat` and `rm.loss=tokenwise`.

Two things differ on purpose (docs/recipes.md), and are shown to be all: its end token is padding, so what is learnt there is
left out of its losses; and its reward loss reads the padding of the shorter answer, where ours holds the last score.
"""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf.config import Run
from rlhf.stages.batches import Comparisons, Ranked, Sequences
from rlhf.stages.rm import RewardModel
from tests.comparison import ours
from tests.comparison.inputs import EOS, PAD, numbers
from tests.stages.small import make_run

KL_COEF, CLIP, REWARD_CLIP, GAMMA, LAMBDA = 0.1, 0.2, 5.0, 1.0, 0.95
"""The constants of its trainer."""

Row = Sequence[float]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    keys = {"ppo": ("ppo=ds_chat", "ppo.micro_batch_size=8"), "rm": ("rm=ds_chat",)}
    return lambda stage: make_run(tmp_path_factory.mktemp(stage), f"stage={stage}", *keys[stage])


# what it does, one response at a time


def advantages(logprobs: Row, reference: Row, values: Row, score: float) -> list[float]:
    rewards = [-KL_COEF * (now - before) for now, before in zip(logprobs, reference, strict=True)]
    rewards[-1] += max(-REWARD_CLIP, min(REWARD_CLIP, score))
    found, running = [0.0] * len(rewards), 0.0
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(values) else 0.0
        running = rewards[t] + GAMMA * following - values[t] + GAMMA * LAMBDA * running
        found[t] = running
    return found


def policy_losses(logprobs: Row, old: Row, gains: Row) -> list[float]:
    ratios = [math.exp(now - before) for now, before in zip(logprobs, old, strict=True)]
    return [max(-gain * ratio, -gain * max(1 - CLIP, min(1 + CLIP, ratio))) for gain, ratio in zip(gains, ratios, strict=True)]


def value_losses(values: Row, old: Row, gains: Row) -> list[float]:
    losses = []
    for value, before, gain in zip(values, old, gains, strict=True):
        clipped, target = max(before - CLIP, min(before + CLIP, value)), gain + before
        losses.append(0.5 * max((value - target) ** 2, (clipped - target) ** 2))
    return losses


class Told:
    """Policy, reference, critic and reward that say what they were told of each response."""

    tokenizer = ours.TOKENIZER

    def __init__(self, old: list[Row], reference: list[Row], values: list[Row], scores: Row) -> None:
        self.said, self.valued, self._reference, self._scores = old, values, reference, scores

    def pad(self, rows: list[Any]) -> Sequences:
        return Sequences.of(rows, PAD, ours.CPU)  # each prompt is of one token, so nothing stands before

    def logprobs(self, batch: Any) -> tuple[Tensor, Tensor]:
        return placed(self.said, batch), torch.zeros(batch.ids.shape)

    def reference_logprobs(self, batch: Any) -> Tensor:
        return placed(self._reference, batch)

    def values(self, batch: Any) -> Tensor:
        return placed(self.valued, batch)

    def score(self, *_: object) -> Tensor:
        return torch.tensor(self._scores)


def placed(rows: list[Row], batch: Any) -> Tensor:
    table = torch.zeros(batch.ids.shape)
    for index, row in enumerate(rows):
        table[index, 1 : 1 + len(row)] = torch.tensor(row)
    return table.masked_fill(~batch.targets, 0.0)


def updated(run: Run, told: Told, now: list[Row], values: list[Row], ended: bool) -> tuple[Any, dict[str, float]]:
    """The rollout, and both losses as means over its tokens, once policy and critic have moved to ``now`` and ``values``."""
    rows = [([7], [5] * (len(row) - 1) + [EOS if ended else 5]) for row in now]
    stage = ours.bare_ppo(run, told)
    rollout = stage.score_rollout([None] * len(rows), rows)
    told.said, told.valued = now, values
    losses, _ = stage.loss(rollout)
    return rollout, {name: loss.item() / rollout.weight for name, loss in losses.items()}


def test_an_update_by_hand(composed: Callable[[str], Run]) -> None:
    # score 9.7 counts as 5; rewards -0.1 * 0.2, -0.1 * -0.1, 5 - 0.1 * 0.3 = -0.02, 0.01, 4.97; values 1, 2, 3:
    # A_2 = 4.97 - 3 = 1.97; A_1 = 0.01 + 3 - 2 + 0.95 * 1.97 = 2.8815; A_0 = -0.02 + 2 - 1 + 0.95 * 2.8815 = 3.717425
    # returns 4.717425, 4.8815, 4.97; values now 1.5, 2.1, 4, clipped to 1.2, 2.1, 3.2, of which the errors are larger:
    # (3.517425^2 + 2.7815^2 + 1.77^2) / 6 = (12.3722787 + 7.7367423 + 3.1329) / 6; ratios are 1: loss - mean of A
    told = Told([[-1.0, -2.0, -0.5]], [[-1.2, -1.9, -0.8]], [[1.0, 2.0, 3.0]], [9.7])
    rollout, losses = updated(composed("ppo"), told, told.said, [[1.5, 2.1, 4.0]], ended=True)
    assert rollout.advantages[0, 1:].tolist() == pytest.approx([3.717425, 2.8815, 1.97])
    assert losses == pytest.approx({"policy": -2.856308333, "critic": 3.873653505}, rel=1e-6)


LENGTHS = (4, 1, 6, 3)


def drawn(name: str, scale: float = 1.0) -> list[Row]:
    return [numbers(f"{name}/{index}", length, scale=scale).tolist() for index, length in enumerate(LENGTHS)]


@pytest.mark.parametrize("ended", [False, True])
def test_an_update_is_deepspeed_chats(ended: bool, composed: Callable[[str], Run]) -> None:
    old, reference, before, after = (drawn(name) for name in ("old", "reference", "values before", "values after"))
    now = [[a + b for a, b in zip(*each, strict=True)] for each in zip(old, drawn("moved", 0.5), strict=True)]
    scores = [7.0, -9.0, 0.5, 2.0]
    rollout, got = updated(composed("ppo"), Told(old, reference, before, scores), now, after, ended)
    policy, critic = [], []
    for index in range(len(LENGTHS)):
        gains = advantages(old[index], reference[index], before[index], scores[index])
        assert rollout.advantages[index, 1 : 1 + LENGTHS[index]].tolist() == pytest.approx(gains, rel=1e-5, abs=1e-6)
        policy.append(policy_losses(now[index], old[index], gains))
        critic.append(value_losses(after[index], before[index], gains))
    for name, losses in (("policy", policy), ("critic", critic)):
        assert got[name] == pytest.approx(sum(map(sum, losses)) / sum(LENGTHS), rel=1e-5)
        without_end = sum(sum(row[:-1]) for row in losses) / (sum(LENGTHS) - len(LENGTHS))
        if ended:  # its masked mean leaves out the end tokens, and with them the decision to stop
            assert abs(got[name] - without_end) > 0.05


# its reward model's loss


def tokenwise(chosen: list[int], rejected: list[int], better: Row, worse: Row) -> float:
    """Mean of -log sigmoid from where the padded ids part to the end of the longer answer, whatever the scores stand on."""
    part = next(t for t, (first, second) in enumerate(zip(chosen, rejected, strict=True)) if first != second)
    end = max(len(ids) - ids.count(PAD) for ids in (chosen, rejected))
    return sum(math.log1p(math.exp(worse[t] - better[t])) for t in range(part, end)) / (end - part)


def trained(run: Run, pairs: list[tuple[list[int], list[int]]], scores: Tensor) -> float:
    """Our loss of pairs of answers to the prompt of one token, all chosen ones first in ``scores`` [2P, T]."""
    rows = [Ranked((([1], chosen), ([1], rejected))) for chosen, rejected in pairs]
    batch = Comparisons(rows, PAD, ours.CPU)
    stage = ours.bare(RewardModel, run, _scorer=SimpleNamespace(config=SimpleNamespace(score_pooling="last")))
    stage._setting = SimpleNamespace(engine=SimpleNamespace(forward=lambda *_: scores))
    return stage.loss(batch)[0]["reward_model"].item() / batch.weight


def test_the_tokenwise_loss_by_hand(composed: Callable[[str], Run]) -> None:
    # they part at the second token; differences 0.5, -0.5, and where the rejected one is padding, 0.5 - 2.5 = -2 with its
    # last score held, as here, or 0.5 + 1 = 1.5 with the padding's own, as there
    scores = torch.tensor([[0.0, 1.0, 2.0, 0.5], [0.0, 0.5, 2.5, -1.0]])
    held = trained(composed("rm"), [([5, 6, EOS], [7, EOS])], scores)
    assert held == pytest.approx((0.4740770 + 0.9740770 + 2.1269280) / 3, rel=1e-6)
    theirs = tokenwise([1, 5, 6, EOS], [1, 7, EOS, PAD], *scores.tolist())
    assert theirs == pytest.approx((0.4740770 + 0.9740770 + 0.2014133) / 3, rel=1e-6)


def test_the_tokenwise_loss_of_answers_of_one_length_is_deepspeed_chats(composed: Callable[[str], Run]) -> None:
    pairs = [([5, 6, 8, EOS], [5, 7, 8, EOS]), ([9, EOS], [8, EOS]), ([3, 4, EOS], [3, 5, EOS])]
    scores = numbers("token scores", 6, 5)
    expected = []
    for index, (chosen, rejected) in enumerate(pairs):
        padded = [[1, *answer, *[PAD] * (4 - len(answer))] for answer in (chosen, rejected)]
        expected.append(tokenwise(*padded, scores[index].tolist(), scores[3 + index].tolist()))
    assert trained(composed("rm"), pairs, scores) == pytest.approx(sum(expected) / 3, rel=1e-5)
