"""What a study of each stage optimises."""

import math

from rlhf.result import OBJECTIVES, Result, Status


def value(stage: str, result: Result) -> float | None:
    """The objective of a finished run; null if the run did not finish or the metric is missing or not finite."""
    found = result.metrics.get(OBJECTIVES[stage].metric)
    return found if result.status is Status.finished and found is not None and math.isfinite(found) else None
