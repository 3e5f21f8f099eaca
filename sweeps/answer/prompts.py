"""Whether single runs differ on the very prompts they were evaluated on, where points have no seeds to tell them apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rlhf.compare import measures
from rlhf.compare.groups import Group
from rlhf.compare.subject import Subject, of_folder
from rlhf.fault import Fault
from rlhf.report.folder import read
from sweeps.answer.folder import Trial

NEXT = 10
"""Trials behind the best that are compared with it."""


@dataclass(frozen=True)
class OnPrompts:
    """The best of single runs against the next ones, prompt by prompt."""

    compared: int
    """Those that were evaluated on the same prompts."""
    alike: Sequence[Trial]
    """Those among them whose 95 % interval of the difference contains 0."""


def on_prompts(best: Trial, others: Sequence[Trial], metric: str) -> OnPrompts:
    """Compare ``best`` with the first of ``others`` on ``metric``, by the scores of single prompts in their records."""
    base = _group("A", best)
    compared, alike = 0, []
    for each in others[:NEXT] if base is not None else ():
        other = _group("B", each)
        if base is None or other is None or not all(metric in group.metrics for group in (base, other)):
            continue
        found = measures.difference(metric, base, other)
        if found.interval is not None:
            compared += 1
            alike += [each] if not found.interval.decided else []
    return OnPrompts(compared, alike)


def _group(letter: str, trial: Trial) -> Group | None:
    if len(trial.tracks) != 1:
        return None
    run = trial.tracks[0].run
    try:
        return Group(letter, [_subject(run, (run / "result.json").stat().st_mtime_ns)])
    except (Fault, OSError, ValueError):
        return None


@lru_cache(maxsize=64)
def _subject(run: Path, written: int) -> Subject:
    """The run in a folder whose result was ``written`` then."""
    return of_folder(read(run))
