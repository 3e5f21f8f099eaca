"""The window on a run: four calls, none of which may fail, block or lose the run."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rlhf.config import TrackerConfig, TrackerKind


class Tracker(Protocol):
    """Shows what the record holds."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Metrics after ``step`` rounds."""
        ...

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Sampled answers after ``step`` rounds."""
        ...

    def finish(self, summary: Mapping[str, float], exit_code: int) -> None:
        """The end of the run."""
        ...


class NoTracker:
    """Shows nothing."""

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Do nothing."""

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """Do nothing."""

    def finish(self, summary: Mapping[str, float], exit_code: int) -> None:
        """Do nothing."""


def open_tracker(config: TrackerConfig, about: Mapping[str, Any]) -> Tracker:
    """The tracker of a run; ``about`` holds its id, name, stage, tags, folder and configuration."""
    if config.kind is TrackerKind.none:
        return NoTracker()
    from rlhf.tracking.wandb_tracker import WandbTracker  # optional at run time: its import takes seconds

    return WandbTracker(config, about)
