"""What a person should look at first: the end of a run that went wrong, and numbers that are none."""

import math
from collections.abc import Iterator

from rlhf.report.curves import NOT_METRICS, number
from rlhf.report.folder import RunFolder
from rlhf.result import Status


def problems(run: RunFolder) -> Iterator[str]:
    """Why the run did not end well, if so, and where its record holds numbers that are not finite."""
    if run.result is None:
        yield "There is no result.json: the run is still going on, or it was killed. The same command goes on with it."
    elif run.result.status is not Status.finished:
        reason = f" ({run.result.reason})" if run.result.reason else ""
        yield f"{run.result.status.name}{reason}: {run.result.message or 'no message'}"
    for row in run.metrics:
        broken = [name for name, value in row.items() if name not in NOT_METRICS and not math.isfinite(number(value))]
        if broken:
            yield f"Not finite in round {row['round']}: {', '.join(broken)}"
            return  # from there on it would be every row
