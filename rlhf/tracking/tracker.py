"""The window on a run: five calls, none of which may fail, block or lose the run."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from rlhf.config import Run, TrackerConfig, TrackerKind
from rlhf.identity import Identity
from rlhf.result import Result
from rlhf.tracking.about import OfStudy, about

BY_NATURE = ("eval/", "reward/", "baseline/")
"""Beginnings of names that only held-out measurements have."""


class Tracker(Protocol):
    """Shows what the record holds."""

    def log(self, step: int, row: Mapping[str, float], held_out: bool) -> None:
        """Metrics after ``step`` rounds, of training or ``held_out``."""
        ...

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Answers to the fixed evaluation prompts after ``step`` rounds."""
        ...

    def alert(self, step: int, name: str, text: str) -> None:
        """What is wrong with the run, as its record shows after ``step`` rounds; each ``name`` once."""
        ...

    def finish(self, result: Result) -> None:
        """The end of the run."""
        ...


class NoTracker:
    """Shows nothing."""

    def log(self, step: int, row: Mapping[str, float], held_out: bool) -> None:
        """Do nothing."""

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Do nothing."""

    def alert(self, step: int, name: str, text: str) -> None:
        """Do nothing."""

    def finish(self, result: Result) -> None:
        """Do nothing."""


def open_tracker(run: Run, identity: Identity, first_round: int) -> Tracker:
    """The tracker of the run ``identity``, of which ``first_round`` rounds are done."""
    told = about(run, identity, first_round)
    match run.tracker.kind:
        case TrackerKind.none:
            return NoTracker()
        case TrackerKind.wandb:
            from rlhf.tracking.wandb_tracker import WandbTracker  # optional at run time: its import takes seconds

            return WandbTracker(run.tracker, told)
        case TrackerKind.tensorboard:
            from rlhf.tracking.tensorboard_tracker import TensorboardTracker  # an extra

            return TensorboardTracker(told)


def show_study(config: TrackerConfig, told: OfStudy) -> None:
    """Show a study that has ended or stopped beside its trials, where there is a place for that."""
    if config.kind is TrackerKind.wandb:
        from rlhf.tracking.wandb_study import show  # as above

        show(config, told)


def apart(row: Mapping[str, float], held_out: bool) -> dict[str, float]:
    """``row`` with names that no other kind of row has: a held-out `response/…` is `eval/response/…`."""
    if not held_out:
        return dict(row)
    return {name if name.startswith((*BY_NATURE, "time/", "mem/")) else f"eval/{name}": row[name] for name in row}
