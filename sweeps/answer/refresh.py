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
        self._complaint = ""
        self._due, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="report", daemon=True)

    def __enter__(self) -> "Refresher":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._due.set()
        self._thread.join()
        self._write(running=False)

    def poke(self) -> None:
        """Something has changed."""
        self._due.set()

    def _work(self) -> None:
        while self._due.wait() and not self._closing.is_set():
            self._due.clear()
            began = time.monotonic()
            self._write(running=True)
            spent = time.monotonic() - began
            self._closing.wait(spent / SHARE - spent)

    def _write(self, running: bool) -> None:
        """Write the page; whatever goes wrong with it, the study goes on, and hears of it once."""
        try:
            page.write(folder.read(self._study, self._tracks, running))
        except Exception as error:
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaint:
                print(f"no new report.html ({complaint}); the study goes on", file=sys.stderr, flush=True)
            self._complaint = complaint
