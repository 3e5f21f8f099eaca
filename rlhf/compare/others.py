"""Curves that others have published, as one more run of a comparison."""

import difflib
import json
from collections.abc import Sequence

from rlhf.compare.subject import Subject
from rlhf.fault import Fault
from rlhf.report import published as curves
from rlhf.report.folder import Row


def published(name: str, beside: Sequence[Subject]) -> Subject:
    """The curves of the recipe ``name`` (or its beginning), for the stage of the runs ``beside`` it.

    Raises:
        Fault: there are none, or none of that stage.
    """
    every = json.loads(curves.FILE.read_text(encoding="utf-8"))
    near = [each for each in every if each.startswith(name)] if name else []
    if len(near) != 1:
        meant = near or difflib.get_close_matches(name, every, 1) or list(every)
        raise Fault(f"published:{name}: there are no such curves; there are {', '.join(f'published:{each}' for each in meant)}")
    content = every[near[0]]
    stages = [each.stage for each in beside if each.stage in content["stages"]]
    if not stages:
        has = ", ".join(content["stages"])
        raise Fault(f"published:{near[0]}: holds curves of {has} only; name a run of one of these stages beside it")
    stage = content["stages"][stages[0]]
    rows: list[Row] = [
        {"round": seen, "kind": "eval" if metric.startswith("eval/") else "train", metric: value}
        for metric, points in stage["curves"].items()
        for seen, value in points
    ]
    return Subject(
        name=f"published {near[0]}",
        source=f"published:{near[0]}",
        stage=stages[0],
        status="published",
        facts={"source": content["source"], "remark": stage["remark"]},
        metrics={metric: points[-1][1] for metric, points in stage["curves"].items()},
        rows=rows,
        samples_a_round=1.0,  # its curves are over sequences, pairs or prompts
    )
