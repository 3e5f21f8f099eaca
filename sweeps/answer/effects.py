"""The effects of a screening, from a study's folder."""

from sweeps import screening
from sweeps.answer.folder import Study
from sweeps.screening import Effect
from sweeps.space import Choices, Dimension, Space


def effects(study: Study) -> tuple[list[Effect], str]:
    """The effect of each switch on the first objective, or why it is not known; nothing of a study that screens none."""
    if study.about["mode"] != "screen":
        return [], ""
    dimensions = [Dimension(each["key"], each["key"], Choices(tuple(each["values"]))) for each in study.about["space"]]
    space = Space(tuple(dimensions), (), (), {})
    metric = study.goal.objectives[0].metric
    measured = [
        (each.entry.point, each.seeds or {each.result.seed: each.measured[metric]})
        for each in study.trials
        if each.values is not None and each.result is not None
    ]
    missing = screening.count(space) - len(measured)
    if missing > 0:
        return [], f"{missing} of {len(measured) + missing} runs have not finished, so the effects cannot be told apart."
    return screening.effects(space, measured), ""
