"""Who runs a study whose database can be reached from elsewhere: noted there, with signs of life.

The lock in a study's folder holds on one machine only. Clocks of machines differ, so whether the one that is noted still
lives is seen by whether its signs go on, not by when the last one was.
"""

import os
import socket
import threading
import time
import uuid
from _thread import interrupt_main
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rlhf.fault import Fault
from sweeps.database import GivenUp

SIGN_SECONDS = 3.0
"""Between two signs of life."""
SILENT_SECONDS = 15.0
"""Without a sign, after which a sweeper is taken for dead."""

Note = dict[str, Any]


class Holder:
    """Holds a study until it is let go of, or this process ends."""

    def __init__(
        self, read: Callable[[], Note | None], write: Callable[[Note | None], None], say: Callable[[str], None]
    ) -> None:
        """Take the study; ``read`` and ``write`` are of the note in its database.

        Raises:
            Fault: another one runs it.
        """
        self._read, self._write, self._say = read, write, say
        self._me = uuid.uuid4().hex
        self._signs = 0
        self._let_go = threading.Event()
        _wait_for_silence(read, say)
        self._sign()
        time.sleep(0.2)  # of two that found it free at once, the one that wrote last has it
        if not self._is_mine(read()):
            raise Fault(_refusal(read()))
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let go of it."""
        self._let_go.set()
        self._thread.join()
        with suppress(Fault):  # its database is away, where it falls silent by itself
            if self._is_mine(self._read()):
                self._write(None)

    def _go_on(self) -> None:
        told = False
        while not self._let_go.wait(SIGN_SECONDS):
            try:
                found = self._read()
                if not self._is_mine(found):
                    self._say(f"this study was taken over; ending here ({_told(found)})")
                    interrupt_main()
                    return
                self._sign()
                told = False
            except GivenUp:  # whoever stopped the study knows
                continue
            except Exception as error:  # a database that is away for a while; the study itself says what it needs of it
                if not told:
                    self._say(f"no sign of life could be left in the study's database: {type(error).__name__}")
                told = True

    def _sign(self) -> None:
        self._signs += 1
        self._write({"holder": self._me, "host": socket.gethostname(), "process": os.getpid(), "signs": self._signs})

    def _is_mine(self, found: Note | None) -> bool:
        return found is not None and found["holder"] == self._me


def _wait_for_silence(read: Callable[[], Note | None], say: Callable[[str], None]) -> None:
    first = read()
    if first is None or _is_dead_here(first):
        return
    say(f"waiting {SILENT_SECONDS:.0f} s to see whether another sweeper still runs this study ({_told(first)})")
    deadline = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(SIGN_SECONDS, SILENT_SECONDS) / 3)
        found = read()
        if found is None:
            return
        if found != first:
            raise Fault(_refusal(found))


def _is_dead_here(found: Note) -> bool:
    """Whether it was a process of this machine, which is gone."""
    if found["host"] != socket.gethostname():
        return False
    try:
        os.kill(found["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _refusal(found: Note | None) -> str:
    return f"sweep.storage: another sweeper runs this study ({_told(found)}); wait for it, or choose another sweep.name"


def _told(found: Note | None) -> str:
    return "nobody" if found is None else f"process {found['process']} on {found['host']}"
