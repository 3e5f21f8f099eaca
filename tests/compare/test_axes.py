"""Curves at the same place of an axis, and rewards at equal KL, with numbers worked by hand."""

from pathlib import Path

import pytest

from rlhf.compare import axes, comparison, find
from rlhf.compare.axes import Equal
from rlhf.compare.comparison import Comparison
from tests.compare.made import curve, run

KL = "ppo.kl_coef"


def compared(*folders: Path) -> Comparison:
    return comparison.compare(*find.subjects([str(folder) for folder in folders], None))


def equal(found: Comparison, metric: str, axis: str) -> Equal:
    return next(each for each in found.equals if (each.metric, each.axis) == (metric, axis))


def test_each_axis_ends_where_the_shorter_run_does(tmp_path: Path) -> None:
    rows = curve("reward/gain", [(0, 0.0), (4, 4.0), (8, 8.0)], progress__tokens=[0.0, 100.0, 200.0])
    slow = [
        {**row, "seconds": 3.0 * row["round"]}
        for row in curve("reward/gain", [(0, 0.0), (6, 3.0)], progress__tokens=[0.0, 300.0])
    ]
    price = {"hardware.usd_per_hour": 3600.0, "ranks": 2}
    one = run(tmp_path / "a", price, rows=rows)
    found = compared(one, run(tmp_path / "b", {**price, KL: 0.2, "ppo.batch_size": 16}, rows=slow))
    step = equal(found, "reward/gain", "step")
    assert (step.low, step.high, step.base_value, step.value) == (0.0, 6.0, 6.0, 3.0)
    assert (step.base_mean, step.mean) == pytest.approx((3.0, 1.5)) and step.difference.value == -3.0
    samples = equal(found, "reward/gain", "samples")  # 8 and 16 prompts an update: 64 after eight, 96 after six
    assert (samples.high, samples.base_value, samples.value) == (64.0, 8.0, 2.0)
    tokens = equal(found, "reward/gain", "tokens")
    assert (tokens.high, tokens.base_value, tokens.value) == (200.0, 8.0, 2.0)
    seconds = equal(found, "reward/gain", "seconds")
    assert (seconds.high, seconds.base_value, seconds.value) == pytest.approx((8.0, 8.0, 4 / 3))
    usd = equal(found, "reward/gain", "usd")  # two devices at a dollar a second
    assert (usd.high, usd.base_value, usd.value) == pytest.approx((16.0, 8.0, 4 / 3))


def test_without_a_price_and_with_equal_batches_there_are_fewer_axes(tmp_path: Path) -> None:
    rows = curve("reward/gain", [(0, 0.0), (4, 4.0)])
    found = compared(run(tmp_path / "a", rows=rows), run(tmp_path / "b", {KL: 0.2}, rows=rows))
    assert {each.axis for each in found.equals} == {"step", "seconds"}


def test_tokens_of_an_evaluation_are_those_trained_on_before(tmp_path: Path) -> None:
    train = curve("loss", [(1, 2.0), (2, 1.0)], "train", progress__tokens=[50.0, 120.0])
    held_out = curve("reward/gain", [(0, 0.0), (2, 5.0)])
    folder = run(tmp_path / "a", rows=[held_out[0], *train, held_out[1]])
    subject = find.subjects([str(folder), str(run(tmp_path / "b"))], None)[0][0]
    assert axes.curve(subject, "reward/gain", "tokens") == [(0.0, 0.0), (120.0, 5.0)]
    assert axes.curve(subject, "loss", "tokens") == [(50.0, 2.0), (120.0, 1.0)]


def test_seeds_give_a_curve_its_interval(tmp_path: Path) -> None:
    folders = []
    for kl, seed, end in ((0.1, 1, 1.0), (0.1, 2, 2.0), (0.2, 1, 4.0), (0.2, 2, 5.0)):
        rows = curve("reward/gain", [(0, 0.0), (4, end)])
        folders.append(run(tmp_path / f"{kl}-{seed}", {KL: kl, "seed": seed}, rows=rows))
    found = compared(*folders)
    step = equal(found, "reward/gain", "step")
    assert (step.base_value, step.value) == (1.5, 4.5)
    assert step.difference.interval is not None and step.difference.interval.low == 3.0  # 3 and 3
    line, band = axes.of_group(found.groups[0], "reward/gain", "step")
    assert line == [(0.0, 0.0), (4.0, 1.5)] and band[1] == (4.0, 1.0, 2.0)


def test_the_frontier_is_the_best_so_far() -> None:
    points = [(0.0, 0.0), (1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (5.0, 3.0)]
    assert axes.frontier(points) == [(0.0, 0.0), (1.0, 2.0), (3.0, 4.0), (5.0, 4.0)]
    assert axes.frontier([(2.0, 1.0)]) == [(2.0, 1.0)] and axes.frontier([]) == []


def test_rewards_are_compared_at_equal_kl(tmp_path: Path) -> None:
    def folder(name: str, coefficient: float, kls: list[float], gains: list[float]) -> Path:
        rows = curve("reward/gain", list(zip((0, 2, 4), gains, strict=True)), eval__kl=kls)
        return run(tmp_path / name, {KL: coefficient}, rows=rows)

    # at a KL of 4 the first has gained 2 + 1 of the 2 between 3 and 5; the second 4 of 8 at 8
    found = compared(folder("a", 0.1, [0.0, 3.0, 5.0], [0.0, 2.0, 4.0]), folder("b", 0.2, [0.0, 4.0, 2.0], [0.0, 2.0, 1.5]))
    kl = equal(found, "reward/gain", "kl")
    assert found.kl == "eval/kl" and (kl.low, kl.high) == (0.0, 4.0)
    assert (kl.base_value, kl.value) == (3.0, 2.0)
    assert kl.mean == pytest.approx((0.75 * 2 + 1.75 * 2) / 4, abs=1e-3)  # 0 to 1.5 to 2


def test_two_evaluations_are_no_frontier_and_training_is_one(tmp_path: Path) -> None:
    held_out = curve("reward/gain", [(0, 0.0), (2, 1.0)], eval__kl=[0.0, 1.0])
    train = curve("objective/scores", [(1, 0.0), (2, 1.0)], "train", objective__kl=[0.0, 2.0])
    found = compared(run(tmp_path / "a", rows=held_out + train), run(tmp_path / "b", {KL: 0.2}, rows=held_out + train))
    assert found.kl == "objective/kl"
    assert [each.metric for each in found.equals if each.axis == "kl"] == ["objective/scores"]


def test_nothing_is_read_off_where_a_curve_has_not_been(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        axes.at([(0.0, 0.0), (1.0, 1.0)], 1.5)
    early, late = curve("reward/gain", [(0, 0.0), (2, 1.0)]), curve("reward/gain", [(4, 0.0), (8, 1.0)])
    found = compared(run(tmp_path / "a", rows=early), run(tmp_path / "b", {KL: 0.2}, rows=late))
    assert found.equals == []


def test_each_side_is_held_against_the_base_line_as_far_as_both_have_been(tmp_path: Path) -> None:
    ends = (8, 6, 2)
    folders = [
        run(tmp_path / f"{end}", {KL: end / 10}, rows=curve("reward/gain", [(0, 0.0), (end, float(end))])) for end in ends
    ]
    steps = [each for each in compared(*folders).equals if each.axis == "step"]
    assert [(each.letter, each.high) for each in steps] == [("B", 6.0), ("C", 2.0)]
