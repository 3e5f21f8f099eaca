"""Ctrl-C and SIGTERM as a request: the round in hand is finished, a checkpoint written, and the way on said."""

import ctypes
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Protocol

from rlhf.tracking.screen import warn

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Stop(Protocol):
    """Whether the run shall end after the round in hand."""

    @property
    def reason(self) -> str:
        """`interrupted` or `preempted`; empty while nobody asked."""
        ...

    def requested(self) -> bool:
        """Whether somebody asked."""
        ...


def die_with(parent: int) -> None:
    """End this process, at once, when its parent ends (Linux); leave if the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(f"the parent (process {parent}) is gone")


def adopt_orphans(adopts: bool) -> None:
    """Whether descendants of this process whose parent ends become its own children (Linux), instead of process 1's."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopts))


class StopRequest:
    """A context in which the first signal asks to stop and the second one stops at once."""

    def __init__(self) -> None:
        self.reason = ""
        self._previous: dict[int, object] = {}

    def requested(self) -> bool:
        """Whether somebody asked."""
        return bool(self.reason)

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.reason:
            raise KeyboardInterrupt
        self.reason = "interrupted" if number == signal.SIGINT else "preempted"
        warn("\nstopping after this round, with a checkpoint; once more to stop at once")
