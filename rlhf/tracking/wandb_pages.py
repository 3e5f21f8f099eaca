"""A saved workspace and a report of a study on Weights & Biases, made with `wandb-workspaces` (an extra).

Both show the trials of the study: what it varies against what it judges by, as parallel coordinates, parameter importance
and quality over memory, and the curves over tokens. Given again, the same two are replaced.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf.fault import Fault
from rlhf.sealed import write_atomically
from rlhf.tracking.about import SWEPT
from rlhf.tracking.wandb_study import JOB, Told

PAGES = "wandb_pages.json"
"""File in the study's folder with the addresses of the two."""
MEMORY, TOKENS = "mem/peak_gib", "progress/tokens"


@dataclass(frozen=True)
class Pages:
    """Where they are."""

    workspace: str
    report: str


def save(folder: Path, told: Told, entity: str) -> Pages:
    """Make or replace the pages of the study in ``folder``.

    Raises:
        Fault: the extra is missing, or W&B does not take them.
    """
    try:
        from wandb_workspaces import expr, workspaces
        from wandb_workspaces.reports import v2 as reports
    except ImportError as error:
        raise Fault("workspace=true: needs an extra; pip install 'rlhf[workspaces]'") from error
    try:
        before = _before(folder)
        workspace = _workspace(workspaces, expr, reports, told, entity, before).save()
        report = _report(expr, reports, told, entity, before).save()
        pages = Pages(workspace.url, report.url)
    except Exception as error:  # the client's own errors and those of every layer below it
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Fault(f"workspace=true: W&B did not take the pages of {folder.name} ({reason}); try again later") from error
    write_atomically(folder / PAGES, json.dumps(asdict(pages)) + "\n")
    return pages


def _before(folder: Path) -> Pages | None:
    path = folder / PAGES
    return Pages(**json.loads(path.read_text())) if path.is_file() else None


def _workspace(workspaces: Any, expressions: Any, reports: Any, told: Told, entity: str, before: Pages | None) -> Any:
    made = workspaces.Workspace(entity=entity, project=told.project, name=told.name)
    if before is not None and (known := _known(workspaces.Workspace, before.workspace)) is not None:
        made = known
    made.sections = [
        workspaces.Section(name="What matters", panels=_overview(reports, told), is_open=True),
        workspaces.Section(name="Curves", panels=_curves(reports, told), is_open=True),
    ]
    made.runset_settings.filters = _trials(expressions, told)
    return made


def _report(expressions: Any, reports: Any, told: Told, entity: str, before: Pages | None) -> Any:
    made = reports.Report(entity=entity, project=told.project, title=f"Study {told.name}")
    if before is not None and (known := _known(reports.Report, before.report)) is not None:
        made = known
    made.description = told.goal
    trials = reports.Runset(entity=entity, project=told.project, name="trials", filters=_trials(expressions, told))
    study = reports.Runset(entity=entity, project=told.project, name="study", filters=_study(expressions, told))
    made.blocks = [
        reports.P(f"{told.goal}, over {', '.join(told.swept) or 'nothing'}."),
        reports.PanelGrid(runsets=[trials], panels=[*_overview(reports, told), *_curves(reports, told)]),
        reports.H2("All cells"),
        reports.PanelGrid(runsets=[study], panels=[reports.WeavePanelSummaryTable(table_name=each) for each in told.tables]),
    ]
    return made


def _known(kind: Any, url: str) -> Any | None:
    """What was saved before, unless somebody has deleted it, or changed it beyond what the extra can read."""
    try:
        return kind.from_url(url)
    except Exception:  # it fails in many ways; if W&B does not answer, neither can anything be saved
        return None


def _overview(reports: Any, told: Told) -> list[Any]:
    first = told.metrics[0]
    columns = [reports.Config(f"{SWEPT}.{each}") for each in told.swept] + [
        reports.SummaryMetric(each) for each in told.metrics
    ]
    others = told.metrics[1:] or [MEMORY]
    return [
        reports.ParallelCoordinatesPlot(columns=[reports.ParallelCoordinatesPlotColumn(metric=each) for each in columns]),
        reports.ParameterImportancePlot(with_respect_to=first),
        *(
            reports.ScatterPlot(title=f"{first} over {each}", x=reports.SummaryMetric(each), y=reports.SummaryMetric(first))
            for each in dict.fromkeys([*others, MEMORY])
        ),
    ]


def _curves(reports: Any, told: Told) -> list[Any]:
    return [reports.LinePlot(x=TOKENS, y=[each]) for each in dict.fromkeys(["loss", *told.metrics])]


def _trials(expressions: Any, told: Told) -> Any:
    """By their stage: parents that were trained for them are in the group too."""
    return expressions.And(expressions.Metric("Group") == told.group, expressions.Metric("JobType") == told.stage)


def _study(expressions: Any, told: Told) -> Any:
    return expressions.And(expressions.Metric("Group") == told.group, expressions.Metric("JobType") == JOB)
