"""What a study is after."""

import pytest

from rlhf import followed
from rlhf.constraint import Constraint
from rlhf.fault import Fault
from rlhf.result import Objective, Result, Status
from sweeps.goal import Goal


def result(status: Status = Status.finished, **fields: object) -> Result:
    return Result(status, "sft", "tiny", "r", "s", **fields)  # type: ignore[arg-type]


LOSS = Objective("eval/loss", "minimize")
GAIN = Objective("reward/gain", "maximize")


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (result(metrics={"eval/loss": 2.5}), [2.5]),
        (result(metrics={"eval/loss": float("nan")}), None),
        (result(metrics={"eval/perplexity": 2.5}), None),
        (result(Status.failed, metrics={"eval/loss": 2.5}), None),
    ],
)
def test_only_a_finished_run_with_a_finite_metric_has_a_value(end: Result, expected: list[float] | None) -> None:
    assert Goal((LOSS,), ()).values(end) == expected


def test_what_a_run_took_is_an_objective_too() -> None:
    goal = Goal((LOSS, Objective("mem/peak_gib", "minimize"), Objective("time/seconds", "minimize")), ())
    assert goal.values(result(metrics={"eval/loss": 1.0}, peak_memory_gib=3.0, seconds=7.0)) == [1.0, 3.0, 7.0]
    assert goal.missing(result(metrics={"eval/loss": 1.0}, seconds=7.0)) == ["mem/peak_gib"]


@pytest.mark.parametrize(
    ("written", "value", "excess"),
    [
        ("mem/peak_gib <= 4", 5.0, 1.0),
        ("mem/peak_gib <= 4", 4.0, 0.0),
        ("mem/peak_gib<4", 4.0, 1e-12),
        ("reward/gain >= 0.5", 0.25, 0.25),
        ("reward/gain > 0.5", 0.75, -0.25),
    ],
)
def test_a_constraint_says_by_how_much_it_is_broken(written: str, value: float, excess: float) -> None:
    constraint = Constraint.parse(written)
    assert constraint.excess({constraint.metric: value}) == pytest.approx(excess)
    assert (constraint.excess({constraint.metric: value}) or 0) > 0 or excess <= 0


def test_a_constraint_on_what_was_not_measured_is_not_kept() -> None:
    goal = Goal((LOSS,), (Constraint.parse("eval/kl <= 10"),))
    assert goal.broken(result(metrics={"eval/loss": 1.0})) == ["eval/kl <= 10"]
    assert goal.broken(result(metrics={"eval/kl": 9.0})) == []


@pytest.mark.parametrize(
    "written", ["mem/peak_gib", "mem/peak_gib = 4", "mem/peak_gib <= much", "eval/kl <= nan", "eval/kl < inf", "<= 4"]
)
def test_a_constraint_is_metric_sign_number(written: str) -> None:
    with pytest.raises(Fault, match="sweep.constraints"):
        Constraint.parse(written)


def test_dominance_heeds_directions() -> None:
    goal = Goal((LOSS, GAIN), ())
    assert goal.dominates([1.0, 2.0], [1.0, 1.0]) and not goal.dominates([1.0, 1.0], [1.0, 2.0])
    assert not goal.dominates([1.0, 1.0], [1.0, 1.0]) and not goal.dominates([0.5, 1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("stage", "metric", "measured"),
    [
        ("rm", "eval/accuracy/my_pairs", True),  # a source of another data set
        ("ppo", "ema/reward/gold_gain_low", True),
        ("sft", "ema/eval/loss", False),
        ("sft", "perf/tokens_per_second", True),
        ("ppo", "objective/kl", False),  # a row of training, which no result holds
        ("sft", "reward/gain", False),
    ],
)
def test_what_a_stage_can_measure_is_known_before_it_is_paid_for(stage: str, metric: str, measured: bool) -> None:
    assert followed.can_measure(stage, metric) is measured
