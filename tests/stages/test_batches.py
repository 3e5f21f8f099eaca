"""Batches by hand: where the targets are, and that cutting loses nothing but padding."""

import pytest
import torch

from rlhf.stages.batches import Comparisons, Ranked, Rollout, Sequences

CPU = torch.device("cpu")
ROWS = [([1, 5], [6, 2]), ([1], [7, 8, 9, 2]), ([1, 5, 5], [2])]


def test_the_targets_are_the_responses() -> None:
    batch = Sequences.of(ROWS, 0, CPU)
    assert batch.ids.tolist() == [[1, 5, 6, 2, 0], [1, 7, 8, 9, 2], [1, 5, 5, 2, 0]]
    assert batch.mask.sum(1).tolist() == [4, 5, 4]
    assert batch.targets.int().tolist() == [[0, 0, 1, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 1, 0]]
    assert batch.weight == 7


def test_parts_of_a_prompt_can_be_targets_too() -> None:
    rows = [(row, ((1, len(row[0])),)) for row in ROWS]
    assert Sequences.demonstrated(rows, 0, CPU).targets.int().tolist() == [
        [0, 1, 1, 1, 0],
        [0, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_micro_batches_hold_every_token_once(size: int) -> None:
    parts = Sequences.of(ROWS, 0, CPU).split(size)
    assert sum(part.weight for part in parts) == 7
    assert all(len(part.ids) <= size for part in parts)
    assert all(part.mask.any(0).all() for part in parts)  # each is cut to its own longest
    tokens = [row[kept].tolist() for part in parts for row, kept in zip(part.ids, part.mask, strict=True)]
    assert tokens == [prompt + response for prompt, response in ROWS]


def test_answers_of_a_prompt_stay_together_and_pair_up() -> None:
    a, b, c = ROWS
    lists = Comparisons([Ranked((a, b)), Ranked((c, a, b)), Ranked((b, c))], 0, CPU)
    parts = lists.split(2)
    assert lists.weight == 3 and [part.weight for part in parts] == [2, 1]
    rows = [row[kept].tolist() for row, kept in zip(parts[0].answers.ids, parts[0].answers.mask, strict=True)]
    whole = [prompt + response for prompt, response in (a, c, b, a, b)]  # the best of each prompt, the second, the third
    assert rows == whole
    better, worse, share = parts[0].pairs
    named = [(rows[first], rows[second]) for first, second in zip(better, worse, strict=True)]
    assert named == [(whole[0], whole[2]), (whole[1], whole[3]), (whole[1], whole[4]), (whole[3], whole[4])]
    assert share.tolist() == pytest.approx([1.0, 1 / 3, 1 / 3, 1 / 3])
    assert parts[0].shares.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 2, 1 / 3, 1 / 3])


def rollout() -> Rollout:
    """Prompts on the left, responses on the right: lengths 2 + 1 and 1 + 2 in 2 + 3 columns, the last one empty."""
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 0]], dtype=torch.bool)
    targets = torch.tensor([[0, 0, 1, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.bool)
    numbers = torch.arange(10.0).view(2, 5)
    return Rollout(numbers.long(), mask, targets, numbers, targets, numbers + 10, numbers + 20, numbers + 30)


def test_selecting_rows_drops_the_columns_nobody_uses_in_all_tensors() -> None:
    part = rollout().select(torch.tensor([1]))
    assert part.ids.tolist() == [[6, 7, 8]]
    assert part.mask.all()
    assert part.targets.tolist() == [[False, True, True]]
    assert (part.logprobs.tolist(), part.values.tolist()) == ([[6.0, 7.0, 8.0]], [[16.0, 17.0, 18.0]])
    assert (part.advantages.tolist(), part.returns.tolist()) == ([[26.0, 27.0, 28.0]], [[36.0, 37.0, 38.0]])


def test_micro_batches_of_a_rollout_hold_every_response_token_once() -> None:
    parts = rollout().split(1)
    assert [part.weight for part in parts] == [1, 2]
    assert [part.ids.tolist() for part in parts] == [[[0, 1, 2]], [[6, 7, 8]]]
