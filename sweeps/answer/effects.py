"""The effects of a screening, from a study's folder."""

from collections.abc import Mapping

from sweeps import logbook, screening
from sweeps.answer.folder import Study, Trial
from sweeps.answer.words import names
from sweeps.cells import label
from sweeps.screening import Effect
from sweeps.space import Choices, Dimension, Point, Space


def effects(study: Study) -> tuple[list[Effect], str]:
    """The effect of each switch on the first objective, or why it is not known; nothing of a study that screens none.

    Told from the runs of today's design alone: a study may have others, of switches or values of a session before.
    """
    if study.about["mode"] != "screen":
        return [], ""
    design: Mapping[str, Point] | None = study.about.get("design")
    if design is None:
        return [], f"{logbook.NAME} does not say which runs it screens; the study's own command writes it anew."
    dimensions = [Dimension(each["key"], each["key"], Choices(tuple(each["values"]))) for each in study.about["space"]]
    space = Space(tuple(dimensions), (), (), {})
    metric = study.goal.objectives[0].metric
    known = {each.entry.digest: each for each in study.trials}
    measured, lacking = list[tuple[Point, Mapping[int, float]]](), list[str]()
    for digest, point in design.items():
        trial = known.get(digest)
        if trial is None or trial.result is None or trial.values is None:
            lacking.append(_name(trial, point))
        else:
            measured.append((point, trial.seeds or {trial.result.seed: trial.measured[metric]}))
    planned = screening.count(space)
    if len(measured) == planned:
        return screening.effects(space, measured), ""
    named = f" ({names(lacking)})" if lacking else ""
    return [], f"{planned - len(measured)} of {planned} runs have no result{named}, so the effects cannot be told apart."


def report_effects(study: Study) -> list[str]:
    """The effects of a screening that has ended, one a line."""
    metric, (found, missing) = study.goal.objectives[0].metric, effects(study)
    if missing:
        return [missing]
    told = found[0].ends is not None
    head = f"effect on {metric} of the second value against the first{', with its 95 % interval' if told else ''}:"
    return [head, *(f"  {screening.line(each)}" for each in found), *([] if told else [screening.UNTOLD])]


def _name(trial: Trial | None, point: Point) -> str:
    if trial is None:
        return label(point)
    return f"{trial.number:04d} {'/'.join(filter(None, (trial.entry.status, trial.entry.reason)))}"
