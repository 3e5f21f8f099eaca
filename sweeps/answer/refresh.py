"""Keeps ``report.html`` of a study fresh while it runs, beside the sweeper and never in its way."""

import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from sweeps.answer import folder, page
from sweeps.answer.tracks import Tracks

SHARE = 0.1
"""Part of the time that goes into pages, at most."""


class Refresher:
    """A thread that writes the page after each ``poke``, one page at a time; the last one is written at the end, for sure."""

    def __init__(self, study: Path) -> None:
        self._study, self._tracks = study, Tracks()
        self._due, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="report", daemon=True)

    def __enter__(self) -> "Refresher":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._due.set()
        self._thread.join()
        write_or_warn(self._study, self._tracks, running=False)

    def poke(self) -> None:
        """Something has changed."""
        self._due.set()

    def _work(self) -> None:
        while self._due.wait() and not self._closing.is_set():
            self._due.clear()
            began = time.monotonic()
            write_or_warn(self._study, self._tracks, running=True)
            spent = time.monotonic() - began
            self._closing.wait(spent / SHARE - spent)


def write_or_warn(study: Path, tracks: Tracks, running: bool) -> None:
    """Write the page; whatever goes wrong with it, the study goes on."""
    try:
        page.write(folder.read(study, tracks, running))
    except Exception as error:
        print(f"no report.html ({type(error).__name__}: {error}); the study goes on", file=sys.stderr, flush=True)
