"""Which of many switches matter."""

import itertools
import random

import pytest

from rlhf.fault import Fault
from sweeps.conditions import Condition
from sweeps.screening import FIRST_ROWS, design, effects, lenth, line, points
from sweeps.space import Choices, Dimension, Interval, Point, Space


def space(count: int) -> Space:
    return Space(tuple(Dimension(f"k{each}", f"k{each}", Choices((False, True))) for each in range(count)), (), (), {})


@pytest.mark.parametrize("runs", FIRST_ROWS)
def test_every_design_is_balanced_and_its_columns_orthogonal(runs: int) -> None:
    rows = [[1 if high else -1 for high in row] for row in design(runs - 1)]
    assert len(rows) == 2 * runs
    columns = list(zip(*rows, strict=True))
    assert all(sum(column) == 0 for column in columns)
    assert all(sum(a * b for a, b in zip(*pair, strict=True)) == 0 for pair in itertools.combinations(columns, 2))
    for one, two, three in itertools.combinations(columns[:6], 3):  # folded over: no pair stands in a main effect's place
        assert sum(a * b * c for a, b, c in zip(one, two, three, strict=True)) == 0


def test_known_effects_are_found_and_pairs_do_not_disturb_them() -> None:
    def value(point: Point, noise: float) -> float:
        return 3.0 * point["k0"] - 1.0 * point["k2"] + 0.5 * (point["k1"] != point["k3"]) + noise

    chance = random.Random(0)
    measured = [(point, {seed: value(point, chance.gauss(0, 0.01)) for seed in (1, 2, 3)}) for point in points(space(9))]
    found = effects(space(9), measured)
    assert [each.key for each in found[:2]] == ["k0", "k2"] and found[0].values == (False, True)
    assert found[0].effect == pytest.approx(3, abs=0.02) and found[1].effect == pytest.approx(-1, abs=0.02)
    assert found[0].ends is not None and found[0].ends[0] < 3 < found[0].ends[1] and found[0].decided and found[1].decided
    assert all(abs(each.effect) < 0.03 for each in found[2:])


def test_without_seeds_the_margin_is_lenths() -> None:
    # sizes 1 2 3 4 20: median 3, rough 4.5, below 11.25: 1 2 3 4, median 2.5, times 1.5; t at 5/3 degrees of freedom
    assert lenth([1, -2, 3, -4, 20]) / (1.5 * 2.5) == pytest.approx(5.2, abs=0.2)
    measured = [(point, {1: 5.0 * point["k1"] + 0.1 * point["k0"]}) for point in points(space(7))]
    found = effects(space(7), measured)
    assert found[0].key == "k1" and found[0].decided and not any(each.decided for each in found[2:])


def test_of_two_switches_and_one_seed_no_interval_is_told() -> None:
    measured = [(point, {1: 5.0 * point["k1"] + point["k0"] / 9}) for point in points(space(2))]
    found = effects(space(2), measured)
    assert [(each.ends, each.decided, each.verdict) for each in found] == [(None, False, "")] * 2
    assert line(found[0]) == "k1 false -> true: +5"
    several = [(point, {1: values[1], 2: values[1] + 0.1}) for point, values in measured]
    assert all(each.ends is not None for each in effects(space(2), several))


def test_what_is_no_switch_is_said() -> None:
    three = Dimension("lora", "lora", Choices(("a", "b", "c")))
    with pytest.raises(Fault, match="lora: a screening needs exactly two values"):
        points(Space((three,), (), (), {}))
    with pytest.raises(Fault, match="exactly two"):
        points(Space((Dimension("x", "x", Interval(0, 1, False, False)),), (), (), {}))
    conditional = Dimension("x", "x", Choices((1, 2)), (Condition("lora", ("a",), False),))
    with pytest.raises(Fault, match=r"sweep\.only_if\.x"):
        points(Space((conditional,), (), (), {}))
    with pytest.raises(Fault, match="24 switches; at most 23"):
        points(space(24))
