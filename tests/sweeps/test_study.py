"""A study with fake trials: every cell is a row, the same command runs nothing twice, and what was cut off goes on."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from sweeps import study
from tests.sweeps.interrupted import interrupt_when, wait_until

FAKE_TRIAL = Path(__file__).parent / "fake_trial.py"
Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]
Ran = Callable[[], list[float]]


def test_every_cell_ends_as_a_row_and_the_study_goes_on(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study("sft.learning_rate=1e30,1e9,1e8,1e7,1e-3", "sweep.parallel=2") == 0
    ends = [(row["number"], row["sft.learning_rate"], row["status"], row["reason"]) for row in rows()]
    assert ends == [
        ("0000", "1e+30", "failed", "nan"),
        ("0001", "1000000000.0", "infeasible", "plan"),
        ("0002", "100000000.0", "failed", "crash"),
        ("0003", "10000000.0", "lost", "SIGKILL"),
        ("0004", "0.001", "finished", ""),
    ]
    best = rows()[4]
    assert (float(best["objective"]), best["eval/perplexity"], best["seconds"], best["run_folder"]) == (
        0.1,
        "3.0",
        "1.5",
        "runs/x",
    )
    assert rows()[0]["message"] == "ended as nan"
    assert rows()[2]["message"] == "RuntimeError: as asked"
    said = capsys.readouterr().out
    assert "[5/5 done, 0 running]" in said and "best eval/loss: 0.1 in 0004: sft.learning_rate=0.001" in said
    assert "python -m rlhf study" in said and "fresh=true" in said
    header = next(line for line in said.splitlines() if "status" in line and "message" in line)
    assert header.split() == ["sft.learning_rate", "status", "eval/loss", "GiB", "s", "$", "message"]


def test_optuna_is_told_once_a_trial_and_learns_what_does_not_fit(run_study: Study, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e30,1e9,1e-3")
    nan, oom, good = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/studies/s/study.db").trials
    assert [nan.state, oom.state, good.state] == [TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    assert (oom.constraints, good.constraints) == ({"fits": 1.0}, {"fits": 0.0})
    assert good.params == {"sft.learning_rate": 1e-3} and good.value == pytest.approx(0.1)
    assert (oom.user_attrs["status"], oom.user_attrs["reason"]) == ("infeasible", "plan")


def test_the_same_command_runs_only_the_lost_cell_again(
    run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("sft.learning_rate=1e-3,1e30,1e9,1e8,1e7", "sweep.parallel=1")
    run_study(*command)
    assert "1 lost (0004); the same command runs them again" in capsys.readouterr().out
    before = rows()
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    assert ran() == [1e-3, 1e30, 1e9, 1e8, 1e7, 1e7]
    assert rows()[:4] == before[:4]
    assert [row["status"] for row in rows()[4:]] == ["finished"]
    capsys.readouterr()
    assert run_study(*command) == 0
    assert len(ran()) == 6
    said = capsys.readouterr().out
    assert "5 of them have their row already" in said and "lost" not in said


def test_more_values_and_another_axis_extend_the_study(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e-3,1e9")
    run_study("sft.learning_rate=1e-3,1e9,2e-3")
    assert run_study("sft.learning_rate=1e-3,1e30", "precision=fp32,bf16") == 0
    settings = [(row["sft.learning_rate"], row["precision"], row["status"]) for row in rows()]
    assert settings == [
        ("0.001", "", "finished"),  # fp32 is the default, so the cell precision=fp32 is this one
        ("1000000000.0", "", "infeasible"),
        ("0.002", "", "finished"),
        ("0.001", "bf16", "finished"),  # the least memory first
        ("1e+30", "bf16", "failed"),
        ("1e+30", "fp32", "failed"),
    ]
    assert len(ran()) == 6
    oom = optuna.load_study(study_name="s#3", storage=f"sqlite:///{tmp_path}/studies/s/study.db").trials[1]
    assert oom.state is TrialState.PRUNED and oom.constraints == {"fits": 1.0}  # survives the wider choices


def test_a_range_may_become_a_list_and_a_list_a_range(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path) -> None:
    for values in ("range(1,3)", "1,2,5", "range(1,4)", "range(0.5,2.5,0.5)"):
        assert run_study("sft.learning_rate=1e-3", f"sft.epochs={values}") == 0
    assert sorted(float(row["sft.epochs"]) for row in rows()) == [0.5, 1, 1.5, 2, 3, 5]
    assert {row["status"] for row in rows()} == {"finished"} and len(ran()) == 6
    newest = max(each.study_name for each in optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/studies/s/study.db"))
    trials = optuna.load_study(study_name=newest, storage=f"sqlite:///{tmp_path}/studies/s/study.db").trials
    assert [trial.params["sft.epochs"] for trial in trials] == [float(row["sft.epochs"]) for row in rows()]


def test_fresh_and_a_deleted_trial_run_again(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e30,1e9", "sweep.parallel=1")
    (tmp_path / "studies/s/trials/0001/result.json").unlink()
    run_study("sft.learning_rate=1e30,1e9", "sweep.parallel=1")
    assert ran() == [1e30, 1e9, 1e9]
    run_study("sft.learning_rate=1e30,1e9", "sweep.parallel=1", "fresh=true")
    assert ran() == [1e30, 1e9, 1e9, 1e30, 1e9]
    assert [row["number"] for row in rows()] == ["0000", "0001"]


def test_the_trial_gets_a_frozen_configuration(run_study: Study, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e-3,2e-3")
    folder = tmp_path / "studies/s/trials/0001"
    assert "  group: s\n" in (folder / "config.yaml").read_text()
    tracker = yaml.safe_load((folder / "config.yaml").read_text())["tracker"]
    assert (tracker["trial"], tracker["swept"]) == (1, {"sft.learning_rate": "0.002"})
    overrides = (folder / "overrides.txt").read_text().splitlines()
    assert {"stage=sft", "sft.learning_rate=0.002", "data=demo", "tracker.group=s"} <= set(overrides)
    run_study("sft.learning_rate=3e-3,4e-3", "tracker.group=mine")
    assert "  group: mine\n" in (tmp_path / "studies/s/trials/0002/config.yaml").read_text()


def test_equal_cells_are_one(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path) -> None:
    run_study("sft.learning_rate=1e-3,0.001", "sft.epochs=2,2.0")
    assert ran() == [1e-3] and len(rows()) == 1


def test_all_faults_of_all_cells_are_shown_before_the_first_starts(
    run_study: Study, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study("sft.learning_rate=1e-3,-1", "rollout.top_p=1,2", "data.eval_fraction=7") == 2
    said = capsys.readouterr().err
    assert "3 faults" in said and "Traceback" not in said
    where = "cell sft.learning_rate=-1 rollout.top_p=1; sft.learning_rate=-1 rollout.top_p=2"
    assert f"sft.learning_rate=-1.0: must be above 0 ({where})" in said
    assert "rollout.top_p=2.0" in said
    assert "data.eval_fraction=7.0: must be above 0 and below 1 (every cell)" in said
    assert ran() == [] and not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sft.learning_rate=interval(0,1)", "list its values"),
        ("stage=sft,rm", "runs of one stage"),
        ("sweep.parallel=1,2", "belongs to the whole study"),
        ("sweep.parallel=0", "must be at least 1"),
        ("sweep.threads=0", "must be at least 1"),
        ("sweep.trial_timeout=-1", "above 0"),
        ("sweep.name=a/b", "names a folder"),
    ],
)
def test_what_a_study_cannot_do_is_said(run_study: Study, capsys: pytest.CaptureFixture[str], override: str, said: str) -> None:
    assert run_study(override) == 2
    assert said in capsys.readouterr().err


def test_a_study_keeps_to_its_stage(run_study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    run_study("sft.learning_rate=1e-3,2e-3")
    assert run_study("stage=rm", "rm.learning_rate=1e-3,2e-3") == 2
    assert "sweep.name=s: that study is of stage=sft" in capsys.readouterr().err


def test_a_damaged_record_is_a_message(run_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "studies/s").mkdir(parents=True)
    (tmp_path / "studies/s/study.db").write_text("not a database, " * 100)
    assert run_study("sft.learning_rate=1e-3,2e-3") == 2
    assert "move it away" in capsys.readouterr().err


def test_ctrl_c_writes_rows_and_the_same_command_goes_on(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("sft.learning_rate=1e6,1e-3", "sweep.parallel=1")
    interrupt_when(tmp_path / "ran")
    assert run_study(*command) == 75
    said = capsys.readouterr().out
    assert "[0/2 done, 0 running] 0000 stopped/interrupted" in said
    assert "stopped with 2 cells to go; the same command goes on" in said
    assert [(row["status"], row["reason"]) for row in rows()] == [("stopped", "interrupted")]
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["finished", "finished"]


def test_a_seed_that_finished_before_an_interrupt_is_not_run_again(run_study: Study, rows: Rows, tmp_path: Path) -> None:
    command = ("sft.learning_rate=1e6", "sweep.seeds=2", "seed=1")
    trial = tmp_path / "studies/s/trials/0000"

    def let_the_first_end() -> None:
        wait_until(trial / "1/log.txt")
        (trial / "1/spare").touch()

    threading.Thread(target=let_the_first_end, daemon=True).start()
    interrupt_when(trial / "2/log.txt")
    assert run_study(*command) == 75
    assert [row["status"] for row in rows()] == ["stopped"]
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    assert (tmp_path / "ran_as").read_text().splitlines().count("sft 1") == 1
    assert [row["message"] for row in rows()] == ["mean of 2 seeds"]


SWEEPER = """
import sys
from pathlib import Path
from hydra import initialize_config_dir
import launchers
from rlhf import config
from sweeps import study
sys.path.append(str(Path(launchers.__file__).parent))
config.register()
with initialize_config_dir(str(config.CONF), version_base="1.3"):
    sys.exit(study.main(sys.argv[2:], lambda folder: [sys.executable, sys.argv[1], str(folder)]))
"""


def sweeper(tmp_path: Path, *overrides: str) -> "subprocess.Popen[str]":
    """A study in a process of its own."""
    root = Path(study.__file__).parent.parent
    fixed = ["stage=sft", "sweep.name=s", "tracker=none", f"paths.outputs={tmp_path}"]
    command = [sys.executable, "-c", SWEEPER, str(FAKE_TRIAL), *fixed, *overrides]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    while not path.exists():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.01)


def test_a_second_sweeper_is_refused_and_a_killed_one_is_taken_over(
    run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("sft.learning_rate=1e6,1e-3", "sweep.parallel=1")
    first = sweeper(tmp_path, *command)
    wait_for(tmp_path / "ran", first)
    assert run_study(*command) == 2
    assert f"process {first.pid} is running this study" in capsys.readouterr().err
    first.kill()
    first.communicate()
    (tmp_path / "spare").touch()  # also ends the orphan: fake trials do not die with their sweeper
    (result,) = (tmp_path / "studies/s/trials").glob("*")
    while not (result / "result.json").exists():
        time.sleep(0.01)
    assert run_study(*command) == 0
    assert ran() == [1e6, 1e-3]  # its last result is taken as it is
    assert [row["status"] for row in rows()] == ["finished", "finished"]


def test_a_trial_that_died_with_its_sweeper_runs_again(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path) -> None:
    command = ("sft.learning_rate=1e6,1e-3", "sweep.parallel=1")
    first = sweeper(tmp_path, *command)
    wait_for(tmp_path / "ran", first)
    first.kill()
    first.communicate()
    (tmp_path / "spare").touch()
    (result,) = (tmp_path / "studies/s/trials").glob("*")
    while not (result / "result.json").exists():
        time.sleep(0.01)
    (result / "result.json").unlink()
    assert run_study(*command) == 0
    assert ran() == [1e6, 1e6, 1e-3]
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/studies/s/study.db").trials
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert (trials[0].user_attrs["status"], trials[0].user_attrs["reason"]) == ("lost", "sweeper")
    assert [row["number"] for row in rows()] == ["0000", "0001"]


def test_data_sets_added_to_a_mix_are_axes_by_their_place(run_study: Study, rows: Rows) -> None:
    assert run_study("+source@data.sources.a=alpaca,gsm8k", "+source@data.sources.b=dolly") == 0
    assert [row["source@data.sources.a"] for row in rows()] == ["alpaca", "gsm8k"]


def test_with_a_pruner_a_grid_is_not_run_from_its_worst_value_to_its_best(run_study: Study, ran: Ran) -> None:
    rates = [step * 1e-4 for step in range(1, 9)]
    run_study(f"sft.learning_rate={','.join(f'{rate:g}' for rate in rates)}", "sft.eval_every=1", "sweep.pruner=asha")
    assert sorted(ran()) == pytest.approx(rates) and ran() not in (pytest.approx(rates), pytest.approx(rates[::-1]))
