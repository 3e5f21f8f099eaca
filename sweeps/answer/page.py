"""``report.html`` of a study: one file, offline, without a script; every text is escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlhf.compare.seeds import on_common_seeds
from rlhf.report import chart
from rlhf.report.page import NAME, environment
from rlhf.report.paper import short
from rlhf.sealed import write_atomically
from sweeps import screening
from sweeps.answer import learning, parallel, passes, scatter, standing, timeline, words
from sweeps.answer.effects import effects
from sweeps.answer.folder import PACE, Study, shown
from sweeps.answer.importance import Importance, importance
from sweeps.space import quoted, text

COSTS = {
    PACE: "s / step",
    "perf/tokens_per_second": "tokens / s",
    "mem/peak_gib": "peak GiB",
    "time/seconds": "s",
    "cost/usd": "$",
}
"""Columns beside the objectives, and their headings."""
OPEN = 25
"""Rows that are shown at once; the others are folded, if they are more than a few."""
FEW = 15
"""Rows of the front that are shown; and so many rows are not worth folding."""


def write(study: Study) -> Path:
    """Write the page into the study's folder and return its path."""
    path = study.path / NAME
    write_atomically(path, render(study))
    return path


def render(study: Study) -> str:
    """The page as text."""
    return environment(Path(__file__).parent).get_template("page.html").render(contents(study))


def contents(study: Study) -> dict[str, Any]:
    """Everything the template shows."""
    found = standing.of(study)
    importances = of_keys(study)
    order = [key for key, _ in importances[0].shares]
    told, missing = effects(study)
    open_rows = found.ranked if len(found.ranked) <= OPEN + FEW else found.ranked[:OPEN]
    ahead = {each.number for each in found.front} if len(found.axes) > 1 else set()
    stays = {timeline.kind(each) for each in study.stays}
    return {
        "study": study,
        "standing": found,
        "ended": words.ended(study),
        "complete": words.is_complete(study),
        "seeds": study.about["seeds"],
        "metrics": [each.metric for each in study.goal.objectives],
        "columns": list(study.trials[0].settings) if study.trials else [],
        "champions": found.champions if study.about["mode"] == "characterize" else [],
        "none_yet": words.none_yet(study),
        "likeness": words.likeness(study, found),
        "of_before": words.of_before(study, found),
        "shown": open_rows,
        "folded": found.ranked[len(open_rows) :],
        "few": FEW,
        "ahead": ahead,
        "axes_told": " × ".join(each.metric for each in found.axes),
        "costs": [(name, words.heading(study, COSTS, name)) for name in COSTS if _is_column(study, name)],
        "importances": importances,
        "fronts": scatter.fronts(study, found),
        "parallel": parallel.figure(study, found, order),
        "slices": scatter.slices(study, found),
        "passes": passes.figures(study, found),
        "learning": learning.figure(study, found),
        "timeline": timeline.figure(study),
        "kinds": [each for each in (*timeline.STATUSES, "parent") if each in stays],
        "effects": told,
        "reach": max((abs(end) for each in told for end in each.ends or ()), default=1.0),
        "untold": screening.UNTOLD,
        "parents": words.parents_at_work(study),
        "effects_missing": missing,
        "space": [(each["name"], _values(each)) for each in study.about["space"]],
        "settings": [(key, _said(value)) for key, value in study.about["settings"].items() if value not in (None, {}, [])],
        "spread": standing.spread,
        "how": standing.how,
        "commands": standing.commands,
        "alone": standing.alone,
        "doing": words.doing,
        "names": words.names,
        "said": shown,
        "ends": words.ends,
        "dollars": words.dollars,
        "text": text,
        "whisker": chart.interval,
    }


def of_keys(study: Study) -> list[Importance]:
    """The importance of each key, an objective at a time."""
    judged = [each for each in study.trials if each.values is not None]
    ranked_by = on_common_seeds([(each.measured, each.runs) for each in judged])
    return [
        importance(
            study.about["space"],
            objective,
            [(each.entry.point, by[objective.metric]) for each, by in zip(judged, ranked_by, strict=True)],
        )
        for objective in study.goal.objectives
    ]


def _is_column(study: Study, name: str) -> bool:
    """Whether a cost was measured, and is not shown as an objective."""
    objectives = [each.metric for each in study.goal.objectives]
    return name not in objectives and any(name in each.measured for each in study.trials)


def _values(dimension: Mapping[str, Any]) -> str:
    if "values" in dimension:
        return ", ".join(map(text, dimension["values"]))
    evenly = ", evenly over orders of magnitude" if dimension["log"] else ""
    return f"{short(dimension['low'])} to {short(dimension['high'])}{evenly}"


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_said(each)}" for key, each in value.items())
    return quoted(value)
