"""The records of the runs of a trial, each read again only when it has grown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf.report import folder
from rlhf.report.curves import number
from rlhf.result import Result
from rlhf.runs import run_of
from sweeps.curves import Curve, of_rows

WORK = ("time/train_s", "time/rollout_s", "time/score_s")
"""Seconds of a row of training, since the row before it."""
RECORD = "metrics.jsonl"
LOG_BYTES = 16384
_IN = re.compile(r"^(?P<name>\S+): in (?P<folder>.+)$", re.MULTILINE)
_AT = re.compile(r"^\S+ +(?P<round>\d+)/(?P<rounds>\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Track:
    """What a run has recorded so far."""

    run: Path
    """Its folder."""
    curve: Curve
    rounds: int
    """Rounds done."""
    pace: float | None
    """Seconds a round, without evaluations."""
    planned: int | None = None
    """Rounds in all, of a run that is still at work."""


class Tracks:
    """Of all runs that were asked for."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], Track]] = {}

    def of(self, trial: Path, result: Result | None) -> list[Track]:
        """Those of the trial in a folder, one a seed: of ended runs, or of one that is at work (null ``result``)."""
        seeds = sorted((each for each in trial.glob("*/") if each.name.isdigit()), key=lambda each: int(each.name))
        found: list[Track | None] = []
        for place in seeds or [trial]:
            told = Result.read(place / "result.json") if seeds else result
            if told is not None and (ended := run_of(told, trial.parents[1])) is not None:
                found.append(self._track(ended, None))
            elif told is None and result is None:
                run, done, planned = _at_work(place / "log.txt")
                track = self._track(run, planned) if run is not None else None
                found.append(replace(track, rounds=max(track.rounds, done)) if track is not None else None)
        return [each for each in found if each is not None]

    def _track(self, run: Path, planned: int | None) -> Track | None:
        try:
            about = (run / RECORD).stat()
        except OSError:
            return None
        state = about.st_size, about.st_mtime_ns
        if run not in self._known or self._known[run][0] != state:
            self._known[run] = state, _read(run)
        read = self._known[run][1]
        return Track(run, read.curve, read.rounds, read.pace, planned)


def _read(run: Path) -> Track:
    rows = list(folder.rows(run / RECORD))
    trained = [row for row in rows if row.get("kind") == "train" and isinstance(row.get("round"), int)]
    rounds = max((row["round"] for row in trained), default=0)
    return Track(run, of_rows(rows), rounds, pace(trained))


def pace(trained: Sequence[folder.Row]) -> float | None:
    """Seconds a round over rows of training, the first of which is left out if there are others: it warms up."""
    first, counted = (trained[0]["round"], trained[1:]) if len(trained) > 1 else (0, trained)
    seconds = sum(number(row.get(name, 0.0)) for row in counted for name in WORK)
    rounds = counted[-1]["round"] - first if counted else 0
    return seconds / rounds if rounds > 0 and seconds > 0 else None


def _at_work(log: Path) -> tuple[Path | None, int, int | None]:
    """The run that a trial's log speaks of last, its rounds so far, and in all."""
    try:
        with log.open("rb") as content:
            head = content.read(LOG_BYTES).decode(errors="replace")
            content.seek(max(0, log.stat().st_size - LOG_BYTES))
            tail = content.read().decode(errors="replace")
    except OSError:
        return None, 0, None
    places, rounds = [*_IN.finditer(head), *_IN.finditer(tail)], [*_AT.finditer(tail)]
    run = Path(places[-1]["folder"]) if places else None
    return (run, int(rounds[-1]["round"]), int(rounds[-1]["rounds"])) if rounds else (run, 0, None)
