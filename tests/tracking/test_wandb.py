"""Weights & Biases as a sink: what it is told is in its offline file, and it can fail without the run noticing."""

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf.config import TrackerArtifacts, TrackerConfig, TrackerKind
from rlhf.result import Result, Status
from rlhf.tracking.about import About, Node
from rlhf.tracking.wandb_tracker import WandbTracker

CONFIG = TrackerConfig(
    kind=TrackerKind.wandb,
    project="test",
    group="a-study",
    tags=["extra"],
    artifacts=TrackerArtifacts.reference,
    finish_seconds=60.0,
)
SFT = Node("sft-89abcdef", "model", {"stage": "sft", "result_signature": "89abcdef"})


@pytest.fixture
def told(tmp_path: Path) -> About:
    """A PPO run of which nothing is done yet, with an artifact in its folder for its end."""
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "weights").write_text("heavy")
    (tmp_path / "artifact" / "manifest.json").write_text('{"files": {"weights": "d1"}}')
    return About(
        folder=tmp_path,
        stage="ppo",
        name="ppo-tiny-s1-0123",
        signature="ppo-opt1.3b-01234567",
        tags=["tiny"],
        config={"ppo": {"kl_coef": 0.1}},
        samples_a_round=8,
        first_round=0,
        fresh=False,
        inputs=[Node("demo-0", "dataset", {"data_digest": "0"}), SFT],
        output=Node("ppo-4567", "model", {"stage": "ppo", "result_signature": "4567"}),
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))


def tracked(told: About, config: TrackerConfig = CONFIG) -> None:
    """Two rounds with an evaluation before and after."""
    tracker, first = WandbTracker(config, told), told.first_round
    if first == 0:
        tracker.log(0, {"eval/kl": 0.0, "response/length_mean": 4.0}, held_out=True)
        tracker.table(0, [{"prompt": "a", "response": "b", "score": 0.5}])
    for step in (first + 1, first + 2):
        row = {"loss": 1.0 / step, "response/length_mean": 3.0, "progress/tokens": 100.0 * step, "time/train_s": 1.0}
        tracker.log(step, row, held_out=False)
    tracker.log(first + 2, {"eval/kl": 0.5, "response/length_mean": 5.0}, held_out=True)
    ended = Result(
        Status.finished, "ppo", "tiny", "0123", "4567", metrics={"reward/gain": 0.25}, artifact=str(told.folder / "artifact")
    )
    tracker.finish(ended)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wandb"), key=lambda file: file.stat().st_mtime_ns)


def records(file: Path, kind: str) -> list[dict[str, Any]]:
    """The records of one kind, as wandb's own reader tells them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    inspect = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in inspect.stdout.splitlines()]
    return [row[kind] for row in rows if row["type"] == kind]


def history(file: Path) -> list[dict[str, Any]]:
    return [row["item"] for row in records(file, "history")]


def test_the_offline_file_holds_what_was_logged(told: About) -> None:
    tracked(told)
    (file,) = files(told.folder)
    (run,) = records(file, "run")
    assert (run["run_id"], run["display_name"], run["run_group"]) == ("ppo-opt1_3b-01234567", "ppo-tiny-s1-0123", "a-study")
    assert (run["job_type"], set(run["tags"])) == ("ppo", {"tiny", "extra"})
    assert run["config"]["update"]["ppo"] == {"kl_coef": 0.1}
    rows = history(file)
    assert [(row["_step"], row["progress/samples"], row.get("progress/tokens")) for row in rows] == [
        (0, 0, None),
        (1, 8, 100),
        (2, 16, 200),
    ]
    assert [row.get("loss") for row in rows] == [None, 1.0, 0.5]
    assert (rows[2]["response/length_mean"], rows[2]["eval/response/length_mean"], rows[2]["eval/kl"]) == (3, 5, 0.5)
    summary = {key: value for row in records(file, "summary") for key, value in row["update"].items()}
    assert (summary["reward/gain"], summary["status"]) == (0.25, "finished")


def test_metrics_are_drawn_over_samples_and_costs_over_tokens(told: About) -> None:
    tracked(told)
    axes = {row.get("glob_name", row.get("name")): row.get("step_metric") for row in records(files(told.folder)[0], "metric")}
    assert axes["*"] == "progress/samples"
    assert axes["time/*"] == axes["perf/*"] == axes["mem/*"] == "progress/tokens"


def test_the_fixed_prompts_are_a_table(told: About) -> None:
    tracked(told)
    (file,) = files(told.folder)
    assert history(file)[0]["samples._type"] == "table-file"
    (table,) = told.folder.rglob("*.table.json")
    content = json.loads(table.read_text())
    assert (content["columns"], content["data"]) == (["round", "prompt", "response", "score"], [[0, "a", "b", 0.5]])


def test_the_lineage_leads_from_data_and_parents_to_the_model(told: About) -> None:
    tracked(told)
    logged = {row["name"]: row for row in records(files(told.folder)[0], "artifact")}
    used = [name for name, row in logged.items() if row.get("use_after_commit")]
    assert used == ["demo-0", "sft-89abcdef"]
    made = logged["ppo-4567"]
    assert not made.get("use_after_commit") and json.loads(made["metadata"])["files"] == {"weights": "d1"}
    assert [each["path"] for each in made["manifest"]["contents"]] == ["identity.json"]  # a reference: no weights
    parent = replace(told, folder=told.folder / "parent", output=SFT, inputs=[])
    parent.folder.mkdir()
    (parent.folder / "artifact").mkdir()
    (parent.folder / "artifact" / "manifest.json").write_text('{"files": {}}')
    tracked(parent)
    (made_there,) = [row for row in records(files(parent.folder)[0], "artifact") if row["name"] == SFT.name]
    assert made_there["digest"] == logged[SFT.name]["digest"]  # the same version, from whichever side it is named


@pytest.mark.parametrize(
    ("kept", "names"), [("none", set()), ("upload", {"demo-0", "sft-89abcdef", "ppo-4567", "ppo-4567-weights"})]
)
def test_what_is_kept_of_models_is_a_choice(kept: str, names: set[str], told: About) -> None:
    tracked(told, replace(CONFIG, artifacts=TrackerArtifacts[kept]))
    logged = {row["name"]: row for row in records(files(told.folder)[0], "artifact")}
    assert {name for name in logged if not name.startswith("run-")} == names  # run-…: the table
    if kept == "upload":
        contents = [each["path"] for each in logged["ppo-4567-weights"]["manifest"]["contents"]]
        assert sorted(contents) == ["manifest.json", "weights"]


def test_a_resumed_run_goes_on_in_the_same_one(told: About) -> None:
    tracked(told)
    tracked(replace(told, first_round=2))
    first, second = files(told.folder)
    assert records(first, "run")[0]["run_id"] == records(second, "run")[0]["run_id"]
    assert records(second, "run")[0]["resume"] is True
    assert [row["_step"] for row in history(first) + history(second)] == [0, 1, 2, 3, 4]  # so that a sync appends


def test_a_run_begun_anew_is_another_one(told: About) -> None:
    tracked(told)
    tracked(replace(told, fresh=True))
    tracked(replace(told, first_round=2))  # and what resumes it goes on with that
    first, second, third = (records(file, "run")[0]["run_id"] for file in files(told.folder))
    assert first != second == third


def test_a_wandb_that_fails_is_said_once_and_ends_nothing(
    told: About, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: WandbTracker, config: TrackerConfig, about: About) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(WandbTracker, "_serve", fail)
    tracked(told)
    assert capsys.readouterr().out.count("wandb is off for this run (ConnectionError: no route)") == 1


def test_a_wandb_that_hangs_is_left_behind(
    told: About, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    never = threading.Event()
    monkeypatch.setattr(WandbTracker, "_serve", lambda self, config, about: never.wait(5))
    tracked(told, replace(CONFIG, finish_seconds=0.2))
    never.set()
    assert "did not finish" in capsys.readouterr().out


def test_asking_for_a_login_is_not_deprecated(
    told: About, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE")  # so that it asks, and finds none
    monkeypatch.setenv("NETRC", str(told.folder / "no_such_file"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(told.folder / "no_config"))
    tracked(told)
    assert len(files(told.folder)) == 1  # offline
    said = capfd.readouterr()
    assert "deprecated" not in said.out + said.err
