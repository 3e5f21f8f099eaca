"""Searches that go on with another space, goal or other settings, with fake trials."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]
Ran = Callable[[], list[float]]

TUNE = ("sweep.mode=tune", "sweep.sampler=random", "sft.learning_rate=tag(log,interval(1e-5,1e-1))")


def test_a_changed_space_or_goal_is_refused_with_the_difference(
    run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study(*TUNE, "sweep.trials=2")
    wider = (*TUNE[:2], "sft.learning_rate=tag(log,interval(1e-5,1))", "sweep.trials=3")
    assert run_study(*wider) == 2
    said = capsys.readouterr().err
    assert "sft.learning_rate: 1e-05 to 0.1 (log)} -> {sft.learning_rate: 1e-05 to 1 (log)}" in said
    assert "sweep.accept_changes=true" in said
    assert run_study(TUNE[0], TUNE[2], "sweep.trials=3", "sweep.sampler=tpe", "sweep.pruner=median", "sft.eval_every=1") == 2
    said = capsys.readouterr().err
    assert "pruner none -> median min_rung=1 warmup_trials=4 resource=tokens;" in said and "; sampler random -> tpe" in said
    assert run_study(*wider, "sweep.accept_changes=true") == 0
    other = (*wider, "sweep.objective=[mem/peak_gib]")
    assert run_study(*other) == 2
    assert "minimize eval/loss -> minimize mem/peak_gib" in capsys.readouterr().err
    assert run_study(*other, "sweep.accept_changes=true") == 0
    assert len(ran()) == 3
    trials = optuna.load_study(study_name="s#2", storage=f"sqlite:///{tmp_path}/studies/s/study.db").trials
    sizes = {float(row["peak_memory_gib"]) for row in rows()}
    assert [trial.values for trial in trials] == [[size] for size in sizes] * 3  # judged again by what they measured


def test_a_list_of_values_cannot_become_an_interval(run_study: Study, ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_study(*TUNE[:2], "sft.learning_rate=1e-3,2e-3", "sweep.trials=1") == 0
    assert run_study(*TUNE, "sweep.trials=2", "sweep.accept_changes=true") == 2
    said = "sft.learning_rate: was a list of values in this study and is any numbers; choose another sweep.name for that"
    assert said in capsys.readouterr().err and len(ran()) == 1


def test_a_value_that_was_taken_out_is_proposed_no_more(run_study: Study, ran: Ran) -> None:
    command = (*TUNE[:2], "sft.weight_decay=0,0.1", "sweep.accept_changes=true")
    assert run_study(*command, "sft.learning_rate=1e-3", "sweep.trials=1") == 0
    assert run_study(*command, "sft.learning_rate=1e-3,2e-3,3e-3,4e-3", "sweep.trials=2") == 0
    first = ran()
    assert run_study(*command, "sft.learning_rate=1e-3,2e-3", "sweep.trials=9") == 0
    assert set(ran()[len(first) :]) <= {1e-3, 2e-3}


def test_a_search_that_was_accepted_with_other_settings_runs_the_same_points_anew(run_study: Study, ran: Ran) -> None:
    command = ("sweep.mode=tune", "sft.learning_rate=1e-3,2e-3")
    run_study(*command, "sweep.trials=2")
    assert run_study(*command, "sft.weight_decay=0.3", "sweep.trials=4", "sweep.accept_changes=true") == 0
    assert sorted(ran()) == [1e-3, 1e-3, 2e-3, 2e-3]
