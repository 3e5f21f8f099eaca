"""``study.json``: what a study is after and how far it is, for whoever wants to show it; replaced in one step at every change.

With the trials' folders it is all that the answer of a study needs (``sweeps.answer``): no database is opened for that.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rlhf.config import Run, SweepMode
from rlhf.result import Result, Status
from rlhf.sealed import write_atomically
from sweeps import option
from sweeps.cells import Grid, common
from sweeps.goal import Goal
from sweeps.record import RUNNING, Entry
from sweeps.space import Choices, Space

NAME = "study.json"
CLOCK: Callable[[], float] = time.time


@dataclass
class Stay:
    """A run of a trial or of a parent while it was at work. ``folder`` is inside of the study's."""

    folder: str
    began: float
    """In seconds since 1970, as ``ended``."""
    ended: float | None = None
    status: str = RUNNING
    reason: str = ""
    usd_per_second: float | None = None
    """What its place costs, of all its ranks; None where no price is known."""

    def seconds(self, now: float) -> float:
        """For how long it has had its place: importing, loading, saving and waiting too."""
        return (now if self.ended is None else self.ended) - self.began


class Logbook:
    """Writes ``study.json``. ``changed`` is called after each time."""

    def __init__(self, folder: Path, about: dict[str, Any], entries: Callable[[], Iterable[Entry]]) -> None:
        """Go on with the book in ``folder``, if there is one; ``entries`` are the trials as recorded."""
        self.changed: Callable[[], None] = lambda: None
        self._path, self._about, self._entries = folder / NAME, about, entries
        before = read(folder)
        self._sessions: list[dict[str, float | None]] = [*before.get("sessions", ()), {"began": CLOCK(), "ended": None}]
        self._stays = [Stay(**each) for each in before.get("runs", ())]
        for stay in self._stays:
            if stay.ended is None:  # its sweeper died
                stay.status, stay.ended = "lost", _last_sign(folder / stay.folder, stay.began)

    @property
    def began(self) -> float:
        """When the study's first session did, in seconds since 1970."""
        return self._sessions[0]["began"] or 0.0

    def started(self, folder: Path, usd_per_second: float | None = None) -> None:
        """A run begins in ``folder``, in a place of that price."""
        self._stays.append(Stay(str(folder.relative_to(self._path.parent)), CLOCK(), usd_per_second=usd_per_second))
        self.write()

    def ended(self, folder: Path, result: Result, seconds: float) -> None:
        """It ended just now, after so many seconds; less than since it ``started`` if it waited for room."""
        name = str(folder.relative_to(self._path.parent))
        stay = next(each for each in reversed(self._stays) if each.folder == name)
        stay.ended, stay.status, stay.reason = CLOCK(), result.status.name, result.reason
        stay.began = max(stay.began, stay.ended - seconds)

    def spent(self) -> tuple[float, float]:
        """Seconds and dollars for which runs have had their places: parents, and those that were lost and begun again, too."""
        ended = [(stay.ended - stay.began, stay.usd_per_second or 0.0) for stay in self._stays if stay.ended is not None]
        return sum(seconds for seconds, _ in ended), sum(seconds * price for seconds, price in ended)

    def close(self) -> None:
        """The session ends."""
        self._sessions[-1]["ended"] = CLOCK()
        self.write()

    def write(self) -> None:
        """Replace the file."""
        trials = [
            {
                "number": each.number,
                "digest": each.digest,
                "overrides": each.overrides,
                "point": each.point,
                "status": each.status,
                "reason": each.reason,
            }
            for each in self._entries()
        ]
        content = {**self._about, "sessions": self._sessions, "trials": trials, "runs": [asdict(each) for each in self._stays]}
        write_atomically(self._path, json.dumps(content) + "\n")
        self.changed()


def about(
    run: Run, space: Space, goal: Goal, words: list[str], planned: int | None, at_once: int, grid: Grid
) -> dict[str, Any]:
    """What does not change while the study runs: goal, space, settings and the command, in plain JSON.

    ``planned`` is the number of trials, where anybody knows it; ``words`` are the overrides that were typed. Needs an
    initialised Hydra, which knows what `sweep=NAME` stands for.
    """
    sweep = {name: each.name if isinstance(each, Enum) else each for name, each in asdict(run.sweep).items()}
    return {
        "stage": run.stage,
        "model": run.model.name,
        "mode": run.sweep.mode.name,
        "seeds": [run.seed + number for number in range(run.sweep.seeds)],
        "objectives": [asdict(each) for each in goal.objectives],
        "constraints": [str(each) for each in goal.constraints],
        "space": [_dimension(each.key, each.name, each.domain) for each in space.dimensions],
        "fixed": common(space),
        "left_out": grid.left_out,
        "design": {each.digest: each.point for each in grid.cells} if run.sweep.mode is SweepMode.screen else {},
        "words": words,
        "option": option.sets(space.fixed),
        "config_dir": option.config_dir(),
        "planned": planned,
        "at_once": at_once,
        "by_epoch": getattr(getattr(run, run.stage), "eval_every_epoch", False),
        "usd_per_hour": run.hardware.usd_per_hour,
        "settings": sweep,
    }


def read(folder: Path) -> dict[str, Any]:
    """The book of a study folder; empty where there is none that can be read."""
    try:
        content = json.loads((folder / NAME).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def put_aside(folder: Path, entries: Iterable[Entry]) -> Path | None:
    """Rename the book of a study folder if none of its trials is among ``entries``, those of the record: it is that of a
    record which was moved away, whose runs are neither billed to today's study nor part of it. None: it was left."""
    trials = {each["number"] for each in read(folder).get("trials", ())}
    if not trials or trials & {each.number for each in entries}:
        return None
    book = folder / NAME
    free = (book.with_stem(f"{book.stem}.{number}") for number in itertools.count(1))
    return book.rename(next(each for each in free if not each.exists()))


def is_whole(book: dict[str, Any]) -> bool:
    """Whether a book has all that its readers need, each of its kind."""
    return (
        _has(book, _BOOK)
        and all(_has(each, _TRIAL) and (each["status"] == RUNNING or each["status"] in _ENDS) for each in book["trials"])
        and all(_has(each, _STAY) and isinstance(each.get("usd_per_second"), _NUMBER_OR_NONE) for each in book["runs"])
        and all(_has(each, _SESSION) for each in book["sessions"])
        and all(_has(each, _OBJECTIVE) and each["direction"] in ("minimize", "maximize") for each in book["objectives"])
        and all(_has(each, _AXIS) and (_has(each, {"values": list}) or _has(each, _ENDS_OF_AXIS)) for each in book["space"])
        and all(isinstance(each, str) for name in ("words", "fixed", "constraints") for each in book[name])
        and all(isinstance(each, str) for trial in book["trials"] for each in trial["overrides"])
        and bool(book["objectives"])
    )


_NUMBER, _NUMBER_OR_NONE = (int, float), (int, float, type(None))
_ENDS = {each.name for each in Status}
_BOOK = {
    **dict.fromkeys(("stage", "model", "mode"), str),
    **dict.fromkeys(("seeds", "objectives", "constraints", "space", "fixed", "words", "sessions", "trials", "runs"), list),
    **dict.fromkeys(("left_out", "settings"), dict),
    "planned": (int, type(None)),
}
_TRIAL = {"number": int, "overrides": list, "point": dict, "status": str, "reason": str}
_STAY = {"folder": str, "began": _NUMBER, "ended": _NUMBER_OR_NONE, "status": str, "reason": str}
_SESSION = {"began": _NUMBER, "ended": _NUMBER_OR_NONE}
_OBJECTIVE = {"metric": str, "direction": str}
_AXIS = {"key": str, "name": str}
_ENDS_OF_AXIS = {"low": _NUMBER, "high": _NUMBER, "log": bool, "whole": bool}


def _has(found: Any, kinds: Mapping[str, Any]) -> bool:
    return isinstance(found, dict) and all(name in found and isinstance(found[name], kind) for name, kind in kinds.items())


def cut_off(folder: Path) -> dict[str, float]:
    """For how many seconds each run without an end in the book of a study folder was at work, by its folder, as far as its
    files tell."""
    stays = [Stay(**each) for each in read(folder).get("runs", ())]
    signs = {stay.folder: _last_sign(folder / stay.folder, stay.began) - stay.began for stay in stays if stay.ended is None}
    return {name: max(0.0, seconds) for name, seconds in signs.items()}


def _dimension(key: str, name: str, domain: Any) -> dict[str, Any]:
    if isinstance(domain, Choices):
        return {"key": key, "name": name, "values": list(domain.values)}
    return {"key": key, "name": name, "low": domain.low, "high": domain.high, "log": domain.log, "whole": domain.whole}


def _last_sign(folder: Path, began: float) -> float:
    """When something was last written in ``folder``."""
    return max((each.stat().st_mtime for each in folder.glob("*") if each.is_file()), default=began)
