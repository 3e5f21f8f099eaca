"""A screening whose switches or their values are others than in a session before: effects are told from today's runs alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps.answer import command

Study = Callable[..., int]
Ran = Callable[[], list[float]]
SCREEN = ("sweep.mode=screen", "sft.weight_decay=0,0.1")
CHANGED = "sweep.accept_changes=true"


@pytest.fixture
def screened(run_study: Study) -> Study:
    """A screening of two switches that has ended, to go on with."""
    assert run_study(*SCREEN, "sft.learning_rate=1e-3,2e-3") == 0
    return run_study


def answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What `study` prints; nothing that was printed before."""
    capsys.readouterr()
    assert command.main([str(tmp_path / "studies/s")]) == 0
    return capsys.readouterr().out


def test_runs_with_a_value_of_before_count_for_no_effect(
    screened: Study, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert screened(*SCREEN, "sft.learning_rate=1e-3,4e-3", CHANGED) == 0
    assert "sft.learning_rate 0.001 -> 0.004: +0.3\n" in capsys.readouterr().out
    assert len(ran()) == 6  # the two at the value that stayed are not run again
    assert "effect of sft.learning_rate 0.001 -> 0.004: +0.3\n" in answered(tmp_path, capsys)


def test_another_switch_has_its_effect(screened: Study, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells that set it to its usual value are those of before, which know nothing of it."""
    assert screened(*SCREEN, "sft.learning_rate=1e-3,2e-3", "sft.warmup_steps=20,3", CHANGED) == 0
    said = capsys.readouterr().out
    assert "sft.learning_rate 0.001 -> 0.002: +0.1\n" in said and "sft.warmup_steps 20 -> 3: " in said
    assert len(ran()) == 8
    assert "effect of sft.warmup_steps 20 -> 3: " in answered(tmp_path, capsys)


def test_runs_without_a_result_are_named(screened: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert screened(*SCREEN, "sft.learning_rate=1e-3,1e30", CHANGED) == 0
    missing = "2 of 4 runs have no result (0004 failed/nan, 0005 failed/nan), so the effects cannot be told apart"
    assert missing in capsys.readouterr().out.replace("\n", " ")
    assert missing in answered(tmp_path, capsys).replace("\n", " ")


def test_runs_of_the_same_points_under_other_settings_stand_for_none(
    screened: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    too_much = ("sft.micro_batch_size=256", "sft.batch_size=256")
    assert screened(*SCREEN, "sft.learning_rate=1e-3,2e-3", *too_much, CHANGED) == 0
    assert "4 of 4 runs have no result (0004 infeasible/oom, " in capsys.readouterr().out.replace("\n", " ")
