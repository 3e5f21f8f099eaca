"""How a study ends a trial early: the trial asks at a rung, the sweeper answers, and both meet only in the trial's folder.

A rung is an evaluation between two rounds of the trial's own stage; its parents are never asked for. The trial writes
``verdicts/<round>.asked``, then waits a bounded time for ``verdicts/<round>.json``. Whoever writes that file first has
decided, the trial itself when nobody answered in time, so there is one verdict a rung, it outlives both processes, and a
trial that comes to the same rung again finds it.
"""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rlhf.sealed import write_atomically

FOLDER = "verdicts"
_ASKED, _GIVEN = ".asked", ".json"
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Verdict:
    """Whether a trial goes on after a rung. ``by`` names the rule, ``why`` gives its numbers."""

    go: bool
    by: str
    why: str
    skip: int = 0
    """Evaluations to come at which a trial that goes on need not ask."""


@dataclass(frozen=True)
class Question:
    """A trial that wants to know whether to go on after ``round``. ``run`` is the folder of its run, with the metrics."""

    round: int
    run: Path


class Rungs:
    """The trial's side."""

    def __init__(self, trial: Path, run: Path, seconds: float, stopping: Callable[[], bool] = lambda: False) -> None:
        """Ask in the folder ``trial`` about the run in ``run``, and wait ``seconds`` or until ``stopping``."""
        self._trial, self._run, self._seconds, self._stopping = trial, run, seconds, stopping
        self.last = Verdict(True, "", "")
        """The verdict heard last."""
        self._skip = 0

    def prunes(self, round_: int) -> bool:
        """Ask after ``round_`` rounds, whose evaluation is on the disk, and wait; true if the run shall end here.

        Called after each evaluation in turn, so that those that no rule judges cost no time.
        """
        if self._skip:
            self._skip -= 1
            return False
        (self._trial / FOLDER).mkdir(exist_ok=True)
        write_atomically(self._trial / FOLDER / f"{round_:08d}{_ASKED}", json.dumps({"run": str(self._run.resolve())}) + "\n")
        until = time.monotonic() + self._seconds
        while (found := given(self._trial, round_)) is None:
            if self._stopping():
                found = settle(self._trial, round_, Verdict(True, "the trial", "was asked to stop while it waited"))
                break
            if time.monotonic() >= until:
                found = settle(self._trial, round_, Verdict(True, "the trial", f"no answer in {self._seconds:g} s"))
                break
            time.sleep(POLL_SECONDS)
        self.last, self._skip = found, found.skip
        return not found.go

    def pruned_at(self, round_: int) -> bool:
        """Whether the run was ended after ``round_`` rounds, by a process that died before it could say so."""
        found = given(self._trial, round_)
        if found is None or found.go:
            return False
        self.last = found
        return True


def settle(trial: Path, round_: int, verdict: Verdict) -> Verdict:
    """Leave ``verdict`` on a rung of ``trial`` unless there is one; return the one that holds."""
    path = _path(trial, round_)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    write_atomically(beside, json.dumps(asdict(verdict)) + "\n")
    try:
        with suppress(FileExistsError):
            os.link(beside, path)  # unlike a rename it does not replace: the first one wins
    finally:
        beside.unlink()
    held = given(trial, round_)
    assert held is not None
    return held


def overrule(trial: Path, round_: int, verdict: Verdict) -> None:
    """Put ``verdict`` in the place of the one on a rung, for a trial that is to go on from its checkpoint."""
    write_atomically(_path(trial, round_), json.dumps(asdict(verdict)) + "\n")


def given(trial: Path, round_: int) -> Verdict | None:
    """The verdict on a rung of ``trial``, if there is one."""
    try:
        return Verdict(**json.loads(_path(trial, round_).read_text()))
    except FileNotFoundError:
        return None


def asked(trial: Path) -> list[Question]:
    """All that ``trial`` has asked so far, in the order of its rounds."""
    names = sorted(name for name in _names(trial) if name.endswith(_ASKED) and not name.startswith("."))
    return [_question(trial / FOLDER / name) for name in names]


def waiting(trial: Path) -> Question | None:
    """What ``trial`` has asked and nobody has answered."""
    names = _names(trial)
    still = [name for name in names if name.endswith(_ASKED) and name.removesuffix(_ASKED) + _GIVEN not in names]
    still = [name for name in still if not name.startswith(".")]
    return _question(trial / FOLDER / max(still)) if still else None


def _path(trial: Path, round_: int) -> Path:
    return trial / FOLDER / f"{round_:08d}{_GIVEN}"


def _names(trial: Path) -> set[str]:
    try:
        return set(os.listdir(trial / FOLDER))
    except FileNotFoundError:
        return set()


def _question(path: Path) -> Question:
    return Question(int(path.name.removesuffix(_ASKED)), Path(json.loads(path.read_text())["run"]))
