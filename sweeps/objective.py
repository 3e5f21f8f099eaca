"""What a study of each stage optimises."""

import math
from dataclasses import dataclass
from typing import Literal

from rlhf.result import Result, Status


@dataclass(frozen=True)
class Objective:
    """A metric of ``result.json`` and which way is better."""

    metric: str
    direction: Literal["minimize", "maximize"]


OBJECTIVES = {
    "pretrain": Objective("eval/loss", "minimize"),
    "sft": Objective("eval/loss", "minimize"),
    "rm": Objective("eval/accuracy", "maximize"),
    "ppo": Objective("reward/gain", "maximize"),
}


def value(stage: str, result: Result) -> float | None:
    """The objective of a finished run; null if the run did not finish or the metric is missing or not finite."""
    found = result.metrics.get(OBJECTIVES[stage].metric)
    return found if result.status is Status.finished and found is not None and math.isfinite(found) else None
