"""A saved workspace and a report of a study: what a stand-in for W&B's server is sent, once and again."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rlhf.fault import Fault
from rlhf.tracking import sync, wandb_pages
from rlhf.tracking.wandb_study import TOLD, Told
from tests.tracking.wandb_kept import Server

STUDY = Told(
    project="rlhf",
    group="s",
    name="s",
    stage="sft",
    goal="minimize eval/loss, mem/peak_gib <= 40",
    metrics=["eval/loss"],
    swept=["sft_learning_rate", "lora"],
    tables=["trials"],
    digest="0",
)
Said = pytest.CaptureFixture[str]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs/studies/s"
    (folder / "trials").mkdir(parents=True)
    (folder / TOLD).write_text(json.dumps(asdict(STUDY)))
    return folder


def panels(spec: Any) -> list[tuple[str, Any]]:
    """Type and settings of each panel of a workspace or a report."""
    if isinstance(spec, dict):
        own = [(spec["viewType"], spec["config"])] if "viewType" in spec else []
        return own + [each for value in spec.values() for each in panels(value)]
    return [each for value in spec for each in panels(value)] if isinstance(spec, list) else []


def runs(run_set: Any) -> list[tuple[str, str, str]]:
    """By what a set of runs is chosen."""
    return [(each["key"]["name"], each["op"], each["value"]) for each in run_set["filters"]["filters"]]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_workspace_and_a_report_are_saved_once_and_then_replaced(study: Path, server: Server, capsys: Said) -> None:
    assert sync.main([str(study), "workspace=true"]) == 0
    said = capsys.readouterr().out
    workspace, report = server.views.values()
    assert (
        f"workspace: {server.url}/somebody/rlhf?nw=" in said and f"report: {server.url}/somebody/rlhf/reports/Study-s--" in said
    )
    assert (workspace["type"], workspace["displayName"]) == ("project-view", "s")
    assert (report["type"], report["displayName"], report["description"]) == ("runs", "Study s", STUDY.goal)

    spec = json.loads(workspace["spec"])
    trials = [("group", "=", "s"), ("jobType", "=", "sft")]
    assert runs(spec["section"]["runSets"][0]) == trials
    shown = panels(spec)
    columns = ["config:swept.value.sft_learning_rate", "config:swept.value.lora", "summary:eval/loss"]
    assert [each["accessor"] for each in dict(shown)["Parallel Coordinates Plot"]["columns"]] == columns
    assert dict(shown)["Parameter Importance"]["targetKey"] == "eval/loss"
    scatter = dict(shown)["Scatter Plot"]
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:mem/peak_gib", "summary:eval/loss")
    curves = [(each["xAxis"], each["metrics"]) for kind, each in shown if kind == "Run History Line Plot"]
    assert curves == [("progress/tokens", ["loss"]), ("progress/tokens", ["eval/loss"])]

    grids = [each["metadata"] for each in json.loads(report["spec"])["blocks"] if each["type"] == "panel-grid"]
    assert [runs(each["runSets"][0]) for each in grids] == [trials, [("group", "=", "s"), ("jobType", "=", "study")]]
    assert [kind for kind, _ in panels(grids[0])] == [kind for kind, _ in shown]
    assert [kind for kind, _ in panels(grids[1])] == ["Weave"] and '"trials"' in json.dumps(panels(grids[1]))

    (study / TOLD).write_text(json.dumps(asdict(STUDY) | {"metrics": ["eval/loss", "cost/usd"]}))
    assert sync.main(["workspace=true", str(study)]) == 0
    assert list(server.views.values()) == [workspace, report]  # changed where they are
    assert sum(kind == "Scatter Plot" for kind, _ in panels(json.loads(workspace["spec"]))) == 2
    server.views.clear()  # somebody deletes them
    assert sync.main([str(study), "workspace=true"]) == 0
    assert len(server.views) == 2 and server.unknown == []


def test_a_team_has_its_own_pages(study: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_ENTITY", "team")
    assert sync.main([str(study), "workspace=true"]) == 0
    assert {view["entityName"] for view in server.views.values()} == {"team"}


def test_what_is_no_study_or_was_not_shown_is_refused(tmp_path: Path, study: Path, capsys: Said) -> None:
    assert sync.main(["workspace=true"]) == 2 and "is of a study" in capsys.readouterr().err
    assert sync.main([str(tmp_path), "workspace=true"]) == 2 and "is not the folder of a study" in capsys.readouterr().err
    (study / TOLD).unlink()
    assert sync.main([str(study), "workspace=true"]) == 2 and "was not shown to W&B" in capsys.readouterr().err


def test_a_missing_extra_is_named(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(Fault, match=r"pip install 'rlhf\[workspaces\]'"):
        wandb_pages.save(study, STUDY, "somebody")
