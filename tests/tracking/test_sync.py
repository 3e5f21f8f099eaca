"""Sending what was kept offline, to a stand-in for W&B's server: each step once, however often and in whatever parts."""

import fcntl
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import wandb
from hypothesis import given
from hypothesis import strategies as st

from rlhf.result import Result, Status
from rlhf.tracking import sync, wandb_file
from rlhf.tracking.about import About
from rlhf.tracking.offline import sessions
from tests.tracking.logged import tracked
from tests.tracking.wandb_kept import Server

RUN = "ppo-opt1_3b-01234567"
Said = pytest.CaptureFixture[str]


@pytest.fixture
def log(told: About, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Log a session of two rounds behind the given one, offline."""

    def session(first_round: int) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("WANDB_MODE", "offline")
            tracked(replace(told, first_round=first_round))
        wandb.teardown()  # what it has read of the environment

    return session


def test_sessions_that_overlap_are_sent_with_each_step_once(
    told: About, log: Callable[[int], None], server: Server, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    log(0)
    log(1)  # killed after round 2, gone on with from a checkpoint after round 1
    assert sync.main([str(told.folder)]) == 0
    run = server.runs[RUN]
    assert [(row["_step"], row.get("progress/round")) for row in run.lines] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert run.table("samples")["data"] == [[0, "a", "b", 0.5]]
    assert (run.summary["reward/gain"], run.exit_code, run.about["groupName"]) == (0.25, 0, "a-study")
    assert f"{RUN}: 4 rows sent, 1 known there\n1 sent, 0 there already\n" in capsys.readouterr().out

    assert sync.main([str(told.folder)]) == 0  # again: wandb has marked them
    assert "0 sent, 1 there already\n" in capsys.readouterr().out
    for mark in told.folder.rglob("*.synced"):  # as if it had been cut off before they were marked
        mark.unlink()
    assert sync.main([str(told.folder)]) == 0
    assert "0 rows sent, 5 known there" in capsys.readouterr().out
    log(3)  # and a session later
    monkeypatch.setenv("WANDB_MODE", "offline")  # whoever asks to send does not mean that
    assert sync.main([str(told.folder)]) == 0
    assert [row["_step"] for row in run.lines] == [0, 1, 2, 3, 4, 5]
    assert [row["progress/round"] for row in run.lines] == [0, 1, 2, 3, 4, 5]
    assert server.unknown == []


def test_what_a_killed_session_had_not_told_is_in_the_next_one(
    told: About, log: Callable[[int], None], server: Server, capsys: Said
) -> None:
    log(0)
    (file,) = told.folder.rglob("*.wandb")
    file.write_bytes(file.read_bytes()[: -len(file.read_bytes()) // 2])  # killed: its last rows are lost, one of them is torn
    rows = [{"round": each, "kind": "train", "seconds": 1.0, "loss": 1.0 / each, "response/eos_rate": "nan"} for each in (1, 2)]
    rows += [{"round": each, "kind": "eval", "seconds": 1.0, "response/length_mean": 5.0} for each in (0, 2)]
    rows.sort(key=lambda row: row["round"])
    rows += [{"round": 3, "kind": "train", "seconds": 1.0, "loss": 9.0}]  # behind the checkpoint
    (told.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert sync.main([str(told.folder)]) == 0
    assert len(server.runs[RUN].lines) < 3
    log(2)
    assert sync.main([str(told.folder)]) == 0
    run = server.runs[RUN]
    assert [row["_step"] for row in run.lines] == [0, 1, 2, 3, 4]
    assert [row.get("loss") for row in run.lines] == pytest.approx([None, 1.0, 1 / 2, 1 / 3, 1 / 4])
    assert (run.lines[2]["eval/response/length_mean"], run.lines[2]["progress/samples"]) == (5.0, 16)


def test_a_run_that_is_still_going_on_is_left_out(
    told: About, log: Callable[[int], None], server: Server, capsys: Said
) -> None:
    log(0)
    with (told.folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sync.main([str(told.folder)]) == 0
    assert f"{RUN}: is still going on, left out\n0 sent, 0 there already, 1 left out\n" in capsys.readouterr().out
    assert not server.asked
    assert sync.main([str(told.folder)]) == 0
    assert [row["_step"] for row in server.runs[RUN].lines] == [0, 1, 2]


def test_what_is_refused_is_said_and_sent_later(told: About, log: Callable[[int], None], server: Server, capsys: Said) -> None:
    log(0)
    server.refused = {"UpsertBucket"}
    assert sync.main([str(told.folder)]) == 1
    assert f"{RUN}: was not sent (" in capsys.readouterr().out
    server.refused = set()
    assert sync.main([str(told.folder)]) == 0
    assert [row["_step"] for row in server.runs[RUN].lines] == [0, 1, 2]


def test_without_a_login_the_fix_is_said(
    told: About, log: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    log(0)
    monkeypatch.setenv("NETRC", str(told.folder / "no_such_file"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(told.folder / "no_config"))
    assert sync.main([str(told.folder)]) == 2
    assert "nobody is logged in to W&B; run `wandb login`, or set WANDB_API_KEY" in capsys.readouterr().err


def test_nothing_kept_offline_is_no_fault_but_an_unknown_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sync.main([]) == 0 and "nothing was kept offline in outputs" in capsys.readouterr().out
    assert sync.main(["no-such-run"]) == 2 and "is not the folder of a run" in capsys.readouterr().err
    assert sync.main(["--all"]) == 2 and "there is no such setting" in capsys.readouterr().err


def test_with_a_study_come_its_runs_and_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs, study = Path("outputs/runs"), Path("outputs/studies/s")
    for name in ("sft-a", "sft-b", "other"):
        _session(runs / name, f"offline-run-20260101_000001-{name}")
        (runs / name / "config.yaml").touch()
    _session(runs / "sft-a", "offline-run-20260101_000000-sft-a")  # the earlier of two
    _session(study, "offline-run-20260101_000002-study-s")
    for place, name in (("trials/0000/1", "sft-a"), ("parents/x", "sft-b")):
        ended = Result(Status.finished, "sft", "tiny", "", "", folder=f"gone/{name}")
        (study / place).mkdir(parents=True)
        (study / place / "result.json").write_text(ended.to_json())
    found = sessions(["s"])
    assert [run[0].run for run in found] == ["sft-a", "sft-b", "study-s"]
    assert [each.path.parent.name for each in found[0]] == [f"offline-run-20260101_00000{second}-sft-a" for second in (0, 1)]
    assert len(sessions([])) == 4
    assert sessions(["other"])[0][0].owner.name == "other"
    assert [len(each) for each in sessions([str(found[0][1].path.parent)])] == [1]


def _session(run: Path, folder: str) -> None:
    path = run / "wandb" / folder / f"run-{folder.split('-', 3)[3]}.wandb"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({}))


@given(st.lists(st.integers(0, 70_000), max_size=6))
def test_records_come_back_as_they_were_packed(sizes: list[int]) -> None:
    kept = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    assert list(wandb_file.records(wandb_file.packed(b":W&B\xe1\xbe\x00", kept))) == kept
