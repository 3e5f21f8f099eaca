"""Weights & Biases as a sink: what it is told is in its offline file, and it can fail without the run noticing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.config import TrackerConfig, TrackerKind
from rlhf.tracking import wandb_tracker
from rlhf.tracking.wandb_tracker import WandbTracker

CONFIG = TrackerConfig(kind=TrackerKind.wandb, project="test", group="a-study", tags=["extra"])


def about(folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "id": "ppo-tiny-0123abcd",
        "name": "ppo-tiny-0123abcd",
        "stage": "ppo",
        "tags": ["tiny"],
        "config": {"ppo": {"kl_coef": 0.1}},
    }


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_the_offline_file_holds_what_was_logged(tmp_path: Path) -> None:
    tracker = WandbTracker(CONFIG, about(tmp_path))
    for step in range(1, 4):
        tracker.log(step, {"loss": 1.0 / step})
    tracker.table(3, [{"prompt": "a", "response": "b", "score": 0.5}])
    tracker.finish({"reward/gain": 0.25}, exit_code=0)
    (file,) = tmp_path.rglob("*.wandb")
    inspect = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)], capture_output=True, text=True, check=True
    )
    records = [json.loads(line) for line in inspect.stdout.splitlines()]
    (run,) = (record["run"] for record in records if record["type"] == "run")
    assert (run["run_id"], run["run_group"], run["job_type"], set(run["tags"])) == (
        "ppo-tiny-0123abcd",
        "a-study",
        "ppo",
        {"tiny", "extra"},
    )
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [(row["progress/round"], row["loss"]) for row in history if "loss" in row] == [(1, 1.0), (2, 0.5), (3, 1.0 / 3)]
    assert any("samples" in row or "samples._type" in row for row in history)
    summary = {
        key: value for record in records if record["type"] == "summary" for key, value in record["summary"]["update"].items()
    }
    assert summary["reward/gain"] == 0.25


def test_a_wandb_that_fails_is_said_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: WandbTracker, config: TrackerConfig, about: dict[str, object]) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(WandbTracker, "_serve", fail)
    tracker = WandbTracker(CONFIG, about(tmp_path))
    tracker.log(1, {"loss": 1.0})
    tracker.finish({}, exit_code=0)
    assert capsys.readouterr().out.count("wandb is off for this run (ConnectionError: no route)") == 1


def test_a_wandb_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import threading

    monkeypatch.setattr(wandb_tracker, "FINISH_SECONDS", 0.2)
    never = threading.Event()
    monkeypatch.setattr(WandbTracker, "_serve", lambda self, config, about: never.wait(5))
    WandbTracker(CONFIG, about(tmp_path)).finish({}, exit_code=0)
    never.set()
    assert "did not finish" in capsys.readouterr().out
