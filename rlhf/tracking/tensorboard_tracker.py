"""TensorBoard as a sink: event files in the run's folder, for `tensorboard --logdir outputs/runs`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from rlhf.result import Result
from rlhf.tracking.about import About
from rlhf.tracking.tracker import apart

FOLDER = "tensorboard"


class TensorboardTracker:
    """Writes events; the first failure is said and ends the writing, not the run."""

    def __init__(self, about: About) -> None:
        self._writer: SummaryWriter | None = None
        self._about = about
        self._guarded(self._begin)

    def log(self, step: int, row: Mapping[str, float], held_out: bool) -> None:
        """A scalar for each metric."""

        def write(writer: SummaryWriter) -> None:
            for name, value in apart(row, held_out).items():
                writer.add_scalar(name, value, step)

        self._guarded(write)

    def table(self, step: int, rows: Sequence[Mapping[str, str | float]]) -> None:
        """The answers as plain text."""
        lines = [f"{name}: {value}" for row in rows for name, value in [*row.items(), ("", "")]]
        self._guarded(lambda writer: writer.add_text("samples", _plain("\n".join(lines)), step))

    def alert(self, step: int, name: str, text: str) -> None:
        """A text under ``doctor/``."""
        self._guarded(lambda writer: writer.add_text(f"doctor/{name}", _plain(text), step))

    def finish(self, result: Result) -> None:
        """Close the file."""
        self._guarded(lambda writer: writer.close())

    def _begin(self, writer: SummaryWriter | None) -> None:
        # what an earlier session wrote behind its checkpoint comes again, and hides what was there
        purge = self._about.first_round + 1 if self._about.first_round else None
        self._writer = SummaryWriter(str(self._about.folder / FOLDER), purge_step=purge)
        if not self._about.first_round:
            self._writer.add_text("config", _plain(json.dumps(self._about.config, indent=2)), 0)

    def _guarded(self, write: Callable[[Any], None]) -> None:
        if self._writer is None and write != self._begin:
            return
        try:
            write(self._writer)
        except Exception as error:  # a full disk, a folder that went away: a sink must not end a run
            self._writer = None
            print(f"tensorboard is off for this run ({type(error).__name__}: {error}); the local record is complete")


def _plain(text: str) -> str:
    """Markdown that shows ``text`` as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
