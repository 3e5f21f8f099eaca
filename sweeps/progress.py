"""What a study says while it runs and when it ends: plain lines, so that a log file reads as well as a terminal."""

from pathlib import Path

from rlhf.result import OBJECTIVES, Result, Status
from sweeps import objective
from sweeps.cells import Entry, label

KEPT = ("failed", "infeasible")
NAMED = 8


class Progress:
    """Counts the cells of one session."""

    def __init__(self, cells: int, kept: int, parallel: int) -> None:
        self._cells, self._kept, self._parallel = cells, kept, parallel
        self._done, self._running, self._seconds = 0, 0, 0.0

    def opening(self, folder: Path) -> str:
        """The first line."""
        kept = f", {self._kept} of them have their row already" if self._kept else ""
        return f"study {folder}: {_count(self._cells, 'cell')}{kept}; {self._parallel} at a time"

    def started(self, entry: Entry) -> str:
        """The line for a trial that starts."""
        self._running += 1
        return f"{self._state()} {entry.number:04d} started: {label(entry.swept)}"

    def ended(self, entry: Entry, result: Result, stage: str, seconds: float) -> str:
        """The line for a trial that ended after ``seconds``."""
        self._running -= 1
        stopped = result.status is Status.stopped
        if not stopped:
            self._done, self._seconds = self._done + 1, self._seconds + seconds
        how = "/".join(part for part in (result.status.name, result.reason) if part)
        value = objective.value(stage, result)
        what = f", {OBJECTIVES[stage].metric} {value:.4g}" if value is not None else ""
        why = f": {result.message.splitlines()[0]}" if result.message else ""
        left = "" if stopped else self._eta()
        return f"{self._state()} {entry.number:04d} {how}{what} in {_duration(seconds)}: {label(entry.swept)}{why}{left}"

    def _state(self) -> str:
        return f"[{self._kept + self._done}/{self._cells} done, {self._running} running]"

    def _eta(self) -> str:
        left = self._cells - self._kept - self._done
        return f" (about {_duration(self._seconds / self._done * left / self._parallel)} left)" if left else ""


def summary(folder: Path, entries: list[Entry], rows: list[dict[str, str]], stage: str, left: int) -> list[str]:
    """The last lines: where the rows are, the best cell, what can be done next. ``left`` cells were kept from running."""
    goal = OBJECTIVES[stage]
    lines = [f"all metrics: {folder / 'trials.csv'}", f"table again: python -m rlhf study {folder}"]
    judged = [(float(row["objective"]), entry) for entry, row in zip(entries, rows, strict=False) if row["objective"]]
    if judged:
        value, best = (min if goal.direction == "minimize" else max)(judged, key=lambda pair: pair[0])
        lines.append(f"best {goal.metric}: {value:.4g} in {best.number:04d}: {label(best.swept)}")
    kept = [entry for entry in entries if entry.status in KEPT and entry.reason != "fault"]
    if kept:
        numbers = ", ".join(f"{entry.number:04d}" for entry in kept[:NAMED]) + (" ..." if len(kept) > NAMED else "")
        lines.append(
            f"failed or did not fit: {numbers} (why: {folder}/trials/{kept[0].number:04d}/log.txt). They are not run again by "
            f"the same command unless their folder is deleted; fresh=true runs every cell again"
        )
    if left:
        lines.append(f"stopped with {_count(left, 'cell')} to go; the same command goes on")
    return lines


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
