"""A study as its tracker shows it: a run of its own with the tables, gone on with and never doubled."""

import csv
import json
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from rlhf.config import TrackerConfig
from rlhf.tracking import wandb_study
from rlhf.tracking.about import OfStudy
from sweeps import shown
from tests.tracking.wandb_kept import Server

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[OfStudy]:
    """What a tracker is told, session by session."""
    found: list[OfStudy] = []
    monkeypatch.setattr(shown, "show_study", lambda config, each: found.append(each))
    return found


def test_a_study_is_a_run_with_a_table_of_all_cells(run_study: Study, rows: Rows, server: Server) -> None:
    assert run_study("sft.learning_rate=1e-3,2e-3,1e30", "tracker.kind=wandb") == 0
    (run,) = server.runs.values()
    assert run.id.startswith("study-s-") and run.exit_code == 0
    assert (run.about["groupName"], run.about["jobType"], run.about["displayName"]) == ("s", "study", "s")
    assert run.config["goal"] == "minimize eval/loss" and run.config["mode"] == "characterize"
    assert run.config["space"] == {"sft_learning_rate": "0.001, 0.002, 1e+30"}
    summary = {"best/eval/loss": 0.1, "best/trial": 0, "best/swept/sft_learning_rate": 1e-3, "trials/finished": 2}
    summary |= {"trials/failed": 1, "trials/ended": 3, "status": "finished"}
    assert {key: run.summary[key] for key in summary} == summary
    table = run.table("trials")
    assert table["columns"] == list(rows()[0])
    cells = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["number"], row["sft.learning_rate"], row["status"]) for row in cells] == [
        ("0000", 0.001, "finished"),
        ("0001", 0.002, "finished"),
        ("0002", 1e30, "failed"),
    ]
    assert (cells[0]["eval/loss"], cells[2]["eval/loss"]) == (0.1, None)

    run_study("sft.learning_rate=1e-3,2e-3,1e30,5e-4", "tracker.kind=wandb")  # goes on
    assert list(server.runs.values()) == [run] and run.sessions == 2
    assert [row["_step"] for row in run.lines] == [0, 1, 2, 3]
    assert [row["best/eval/loss"] for row in run.lines] == [0.1, 0.1, 0.1, 0.05]
    assert len(run.table("trials")["data"]) == 4 and run.summary["best/trial"] == 3
    run_study("sft.learning_rate=1e-3,2e-3,1e30,5e-4", "tracker.kind=wandb")  # nothing is new
    assert run.sessions == 2 and server.unknown == []


def test_a_study_begun_anew_is_another_run(run_study: Study, tmp_path: Path, told: list[OfStudy]) -> None:
    command = ("sft.learning_rate=1e-3,2e-3", "tracker.kind=wandb")
    run_study(*command)
    run_study(*command)
    book = tmp_path / "studies/s/study.json"
    content = json.loads(book.read_text())
    content["sessions"][0]["began"] += 5  # as if the folder had been deleted, and the command given later
    book.write_text(json.dumps(content))
    run_study(*command)
    first, again, later = told
    assert first.id == again.id != later.id and first.digest == again.digest


def test_several_objectives_have_a_front_and_a_screening_its_effects(run_study: Study, told: list[OfStudy]) -> None:
    goal = "sweep.objective=[minimize eval/loss,minimize mem/peak_gib]"
    run_study("sft.learning_rate=1e-3,2e-3", "sft.micro_batch_size=1,2", goal, "tracker.kind=wandb")
    assert [(row["trial"], row["eval/loss"], row["mem/peak_gib"]) for row in told[0].tables["front"]] == [(0, 0.1, 1.0)]
    assert not [key for key in told[0].summary if key.startswith("best/")]
    switches = ("sft.learning_rate=1e-3,2e-3", "sft.warmup_steps=0,1", "sft.weight_decay=0,0.1")
    run_study(*switches, "sweep.mode=screen", "sweep.name=t", "tracker.kind=wandb")
    assert told[1].tables.keys() == {"trials", "effects"}
    first = told[1].tables["effects"][0]
    assert (first["key"], first["from"], first["to"]) == ("sft.learning_rate", "0.001", "0.002")
    assert first["effect"] == pytest.approx(0.1)


def test_without_a_tracker_nothing_is_told(run_study: Study, tmp_path: Path, told: list[OfStudy]) -> None:
    run_study("sft.learning_rate=1e-3,2e-3")
    assert told == [] and not (tmp_path / "studies/s/wandb").exists()


def test_offline_the_way_to_send_it_is_said(run_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_study("sft.learning_rate=1e-3,2e-3", "tracker.kind=wandb")
    assert f"kept offline for W&B; send the study: python -m rlhf sync {tmp_path}/studies/s\n" in capsys.readouterr().out
    assert list((tmp_path / "studies/s").glob("wandb/offline-run-*/run-study-s-*.wandb"))


def test_a_wandb_that_fails_is_said_once_and_ends_no_study(
    run_study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: TrackerConfig, told: OfStudy) -> bool:
        raise ConnectionError("no route")

    monkeypatch.setattr(wandb_study, "_tell", fail)
    assert run_study("sft.learning_rate=1e-3,2e-3", "tracker.kind=wandb") == 0
    assert capsys.readouterr().out.count("wandb does not show this study (ConnectionError: no route)") == 1
    assert not (tmp_path / "studies/s" / wandb_study.TOLD).exists()  # so that the same command tries again


def test_a_wandb_that_hangs_is_left_behind(
    run_study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    never = threading.Event()
    monkeypatch.setattr(wandb_study, "_tell", lambda config, told: never.wait(30))
    assert run_study("sft.learning_rate=1e-3,2e-3", "tracker.kind=wandb", "tracker.finish_seconds=0.2") == 0
    never.set()
    assert "wandb did not finish within 0 s" in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_study_and_its_trials_are_a_group(
    shell: Callable[..., "CompletedProcess[str]"], server: Server, tmp_path: Path
) -> None:
    study = ["-m", "stage=sft", "debug=smoke", "tracker.kind=wandb", "sweep.name=s", "sft.learning_rate=1e-3,3e-3"]
    environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "offline"}
    assert shell(*study, **environment).returncode == 0
    sent = shell("sync", "s", **environment)
    assert (sent.returncode, sent.stdout.splitlines()[-1]) == (0, "3 sent, 0 there already")
    assert shell("sync", "outputs", **environment).stdout == "0 sent, 3 there already\n"
    assert {run.about["groupName"] for run in server.runs.values()} == {"s"}
    with (tmp_path / "outputs/studies/s/trials.csv").open(newline="") as content:
        rows = {int(row["number"]): row for row in csv.DictReader(content)}
    trials = {run.config["trial"]: run for run in server.runs.values() if run.about["jobType"] == "sft"}
    assert trials.keys() == rows.keys() == {0, 1}
    for number, run in trials.items():
        assert run.about["displayName"].startswith(f"{number:04d}-sft-tiny-s1-")
        assert run.config["swept"] == {"sft_learning_rate": float(rows[number]["sft.learning_rate"])}
        judged = float(rows[number]["objective"])  # W&B's summary has what the study judges by, at the top
        assert run.summary["eval/loss"] == pytest.approx(judged) and run.lines[-1]["eval/loss"] == pytest.approx(judged)
    (whole,) = [run for run in server.runs.values() if run.about["jobType"] == "study"]
    assert len(whole.table("trials")["data"]) == 2 and server.unknown == []
