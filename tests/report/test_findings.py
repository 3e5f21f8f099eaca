"""What the report points at."""

from pathlib import Path
from typing import Any

import pytest

from rlhf.report import findings
from rlhf.report.folder import RunFolder
from rlhf.result import Result, Status


def run(*rows: dict[str, Any], result: Result | None = None) -> RunFolder:
    metrics = [{"round": at, "kind": "eval", "seconds": 0.0, **row} for at, row in enumerate(rows)]
    return RunFolder(Path("ppo-tiny-0"), result, [], metrics, [], {})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"reward/gain_low": -0.1, "reward/gain_high": 0.3}], "contains 0"),
        ([{"reward/gain_low": 0.1, "reward/gold_gain_high": -0.2}], "hacked"),
        ([{"response/repetition": 0.3, "response/repetition_sft": 0.1}], "repeat themselves"),
        ([{"val/explained_variance": 0.5}, {"val/explained_variance": -0.5}], "-0.5: the critic misleads"),
        ([{"eval/accuracy": 0.5, "baseline/longer_wins": 0.6}], "nothing but length"),
        ([{"eval/loss": 2.0}, {"eval/loss": 1.0}, {"eval/loss": 1.5}], "overfitting"),
        ([{"response/eos_rate": 0.25}], "Only 25 %"),
    ],
)
def test_a_figure_outside_of_its_range_is_named(rows: list[dict[str, Any]], said: str) -> None:
    (remark,) = findings.remarks(run(*rows))
    assert said in remark


def test_healthy_figures_are_passed_over() -> None:
    healthy = {
        **{"reward/gain_low": 0.1, "reward/gain_high": 0.3, "reward/gold_gain_high": 0.2, "eval/loss": 1.0},
        **{"response/repetition": 0.1, "response/repetition_sft": 0.1, "val/explained_variance": 0.5},
        **{"eval/accuracy": 0.7, "baseline/longer_wins": 0.6, "response/eos_rate": 0.9},
    }
    assert list(findings.remarks(run(healthy, healthy, healthy))) == []


def test_the_end_and_the_first_broken_number_are_problems() -> None:
    ended = Result(Status.failed, "ppo", "tiny", "", "", reason="nan", message="loss is nan")
    found = list(findings.problems(run({"loss": 1.0}, {"loss": "nan"}, {"loss": "nan"}, result=ended)))
    assert found == ["failed (nan): loss is nan", "Not finite in round 1: loss"]
    assert list(findings.problems(run({"loss": 1.0}, result=Result(Status.finished, "ppo", "tiny", "", "")))) == []
