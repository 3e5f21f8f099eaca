"""Questions whose answer is JSON, put to a process that knows torch, so that the sweeper need not import it."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from launchers.pool import environment
from launchers.slots import Slot
from launchers.warm import Child, Gone, Warm
from rlhf.fault import Fault

POLL_SECONDS = 0.02
WORDS = 2000
"""So many of the last characters it wrote may tell why a process ended without an answer."""


class Question:
    """What a module's ``main`` prints when it is called with ``arguments``, in a process of its own."""

    def __init__(self, warm: Warm, module: str, arguments: Sequence[str]) -> None:
        """It is put as soon as ``answer`` is called and the server is ready."""
        self._warm, self._module, self._arguments = warm, module, list(arguments)
        self._said, self._log = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115, until the answer is read
        self._child: Child | None = None

    def answer(self) -> Any | None:
        """The answer; null while there is none. Never waits, and is not to be called again after the answer.

        Raises:
            Fault: the process ended without one; the message has its last words.
        """
        if self._child is None and self._warm.settled():
            with suppress(Gone):
                variables = environment() | Slot(1).environment
                said, log = self._said.fileno(), self._log.fileno()
                self._child = self._warm.start(self._module, self._arguments, variables, said, log)
        if self._child is None or os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        code = self._child.wait()
        with self._said, self._log:
            self._said.seek(0)
            try:
                return json.loads(self._said.read())
            except ValueError:
                raise Fault(f"{self._module}: ended with {code} and no answer; {self._last_words()}") from None

    def withdraw(self) -> None:
        """End the process that works on it, if one does."""
        with self._said, self._log:
            if self._child is not None:
                with suppress(ProcessLookupError):
                    os.killpg(self._child.pid, signal.SIGKILL)
                self._child.wait()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace")[-WORDS:].strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def about_chains(warm: Warm, folders: Sequence[Path]) -> Question:
    """Which stages the frozen trials in ``folders`` consist of; see ``launchers.identify`` for the answer."""
    return Question(warm, "launchers.identify", [str(folder.resolve()) for folder in folders])


def chain_of(warm: Warm, folder: Path) -> list[dict[str, Any]]:
    """The stages of the one trial in ``folder``, parents first; waits for the answer.

    Raises:
        Fault: something its configuration names cannot be used.
    """
    question = about_chains(warm, [folder])
    while (answer := question.answer()) is None:
        time.sleep(POLL_SECONDS)
    (told,) = answer
    if "fault" in told:
        raise Fault(told["fault"])
    stages: list[dict[str, Any]] = told["stages"]
    return stages
