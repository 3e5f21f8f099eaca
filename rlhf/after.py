"""What a person may want to type after a run, in their own words. Torch-free."""

import shlex
from collections.abc import Iterator, Sequence

from rlhf.config import COMPANIONS, Run
from rlhf.result import Result

STEP = 3
"""By how much the second learning rate of the proposed study is above the run's own."""


def commands(run: Run, result: Result, overrides: Sequence[str] | None) -> Iterator[str]:
    """Commands that go on from ``result``.

    Args:
        overrides: what was typed, with the companions that were filled in; None: nobody knows.
    """
    if result.stage != "rm":  # a reward model has nothing to say
        yield f"python -m rlhf chat {shlex.quote(result.folder)}"
    else:
        yield f"python -m rlhf report {shlex.quote(result.folder)}"
    key = f"{result.stage}.learning_rate"
    rate = getattr(run, result.stage).learning_rate
    words = [f"stage={result.stage}"] if overrides is None else _own(run, overrides)
    kept = [word for word in words if word.partition("=")[0] not in (key, "fresh")]
    yield shlex.join(["python", "-m", "rlhf", "-m", *kept, f"{key}={rate:g},{STEP * rate:g}"])


def _own(run: Run, overrides: Sequence[str]) -> list[str]:
    """``overrides`` without the companions, which are filled in again."""
    filled_in = {f"{group}={run.model.usual.get(group, 'default')}" for group in COMPANIONS}
    return [word for word in overrides if word not in filled_in]
