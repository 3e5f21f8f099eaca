"""When a study begins no further trial: its hours or dollars are spent, or all that it tries fails in the same way."""

from rlhf.config import SweepConfig
from rlhf.price import SECONDS_AN_HOUR
from rlhf.result import Result, Status
from sweeps.logbook import Logbook
from sweeps.record import Entry
from sweeps.trials import Trials

FUTILE = 8
"""Trials in a row that failed in the same way, after which a study that has none finished gives up."""


class Limits:
    """Those of one session of a study."""

    def __init__(self, sweep: SweepConfig, trials: Trials, book: Logbook) -> None:
        self._sweep, self._trials, self._book = sweep, trials, book
        self._alike: list[Entry] = []
        """The last trials in a row that failed for one reason."""
        self._reason = ""

    def ended(self, entry: Entry, result: Result) -> None:
        """Hear how a trial came out."""
        if result.status is not Status.failed:
            self._alike = []
            return
        self._alike = [*(self._alike if result.reason == self._reason else []), entry]
        self._reason = result.reason

    def reached(self) -> str:
        """Why no further trial may begin; empty while one may."""
        sweep = self._sweep
        seconds, dollars = self._book.spent()
        if sweep.max_hours is not None and seconds >= sweep.max_hours * SECONDS_AN_HOUR:
            return f"sweep.max_hours={sweep.max_hours:g} are spent ({seconds / SECONDS_AN_HOUR:.2f})"
        if sweep.max_usd is not None and dollars >= sweep.max_usd:
            return f"sweep.max_usd={sweep.max_usd:g} are spent (${dollars:.2f})"
        if len(self._alike) >= FUTILE and not any(result.status is Status.finished for _, result in self._trials.ended()):
            log = self._trials.path(self._alike[-1].number) / "log.txt"
            failed = f"the last {len(self._alike)} trials failed in the same way ({self._reason}) and none has finished"
            return f"{failed}; see {log}, mend it, and the same command goes on"
        return ""
