"""Weights & Biases as a sink: what it is told is in its offline file, and it can fail without the run noticing."""

import json
import threading
from dataclasses import replace

import pytest

from rlhf.config import TrackerArtifacts, TrackerConfig
from rlhf.tracking.about import About
from rlhf.tracking.wandb_tracker import WandbTracker
from tests.tracking.logged import CONFIG, SFT, files, history, records, tracked

pytestmark = pytest.mark.usefixtures("offline")


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


def test_a_finding_is_an_alert_and_a_column_of_the_table_of_runs(told: About) -> None:
    tracked(told)
    (file,) = files(told.folder)
    assert [(row["title"], row["text"]) for row in records(file, "alert")] == [("doctor: late-0", "something is off")]
    summary = {key: value for row in records(file, "summary") for key, value in row["update"].items()}
    assert summary["doctor/late-0"] == 2


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
