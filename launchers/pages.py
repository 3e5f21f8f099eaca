"""The pages of a study's runs, written one after the other beside its trials, so that no trial keeps its slot for that."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from launchers.question import POLL_SECONDS, Question
from launchers.warm import Warm
from rlhf.fault import Fault


class Pages:
    """Has them written by processes of the warm server; without one the trials write their own."""

    def __init__(self, warm: Warm | None, say: Callable[[str], None]) -> None:
        self._warm, self._say = warm, say
        self._due: deque[Path] = deque()
        self._asked: Question | None = None

    def add(self, run: Path) -> None:
        """The run in this folder has ended."""
        if self._warm is not None:
            self._due.append(run)
            self.tick()

    def tick(self) -> None:
        """Begin with the next one if the last is done. Never waits."""
        if self._asked is None and self._due and self._warm is not None:
            self._asked = Question(self._warm, "launchers.page", [str(self._due.popleft().resolve())])
        try:
            if self._asked is not None and self._asked.answer() is not None:
                self._asked = None
        except Fault as fault:
            self._asked = None
            self._say(f"no report.html: {fault}")

    def finish(self) -> None:
        """Write those that are left."""
        while self._due or self._asked is not None:
            self.tick()
            time.sleep(POLL_SECONDS)
