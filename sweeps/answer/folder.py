"""Reads the folder of a study; whatever is missing or torn is left out, so that it can be shown at any moment."""

import math
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launchers.trial import REUSED
from rlhf.compare.seeds import on_common_seeds, was_hopeless
from rlhf.constraint import Constraint
from rlhf.fault import Fault
from rlhf.report.paper import short
from rlhf.result import Objective, Result, Status
from rlhf.runs import is_at_work
from sweeps import logbook, table
from sweeps.answer.tracks import Track, Tracks
from sweeps.goal import Goal, measurements
from sweeps.logbook import Stay
from sweeps.record import RUNNING, Entry
from sweeps.seeds import by_seed, finished, runs_of

TRIALS, PARENTS = "trials/", "parents/"
PACE = "time/step_s"
"""Measured for every trial beside its metrics: seconds a round took, evaluations left out."""

COUNT = (Status.finished, Status.pruned)
"""Ends after which an objective says something: the last one, or that at the rung where it was pruned."""
LONG = 8
"""Characters from which a number is shortened."""


@dataclass(frozen=True)
class Trial:
    """One trial, begun or ended."""

    entry: Entry
    settings: Mapping[str, str]
    """The swept ones, and the fixed ones that differ between trials."""
    result: Result | None
    values: tuple[float, ...] | None
    """The objectives; None if it did not finish, or one of them is missing."""
    broken: Sequence[str]
    """Constraints that it does not keep."""
    seeds: Mapping[int, float]
    """The first objective by seed, of a trial under several."""
    runs: Mapping[int, Mapping[str, float]]
    """What each of its finished runs measured, by seed."""
    tracks: Sequence[Track]
    """Of its runs, one a seed."""
    measured: Mapping[str, float]
    """Without objectives where it failed, did not fit, or was cut off."""
    ranked_by: Mapping[str, float]
    """``measured``, of a trial beside others under fewer seeds on those that they share."""

    @property
    def number(self) -> int:
        """Names its folder."""
        return self.entry.number

    @property
    def label(self) -> str:
        """The swept values, as one would type them."""
        return " ".join(f"{key}={shown(self.settings[key])}" for key in self.entry.point) or "the only cell"

    @property
    def message(self) -> str:
        """The first line of what it said at its end."""
        return (self.result.message.splitlines() or [""])[0] if self.result else ""

    @property
    def is_reused(self) -> bool:
        """Whether a run of it was finished before the study: what it took was measured then, beside who knows what."""
        return self.result is not None and REUSED in self.result.message

    @property
    def is_cut_short(self) -> bool:
        """Whether its objectives are those of its last evaluation, not of its end."""
        return self.entry.status == Status.pruned.name

    @property
    def keeps(self) -> bool:
        """Whether it finished, measured what the study is after and keeps its constraints."""
        return self.values is not None and not self.broken

    @property
    def is_good(self) -> bool:
        """Whether it may be called the best: not one that got fewer seeds than the others since it was surely worse."""
        return self.keeps and self.result is not None and not was_hopeless(self.result)


@dataclass(frozen=True)
class Study:
    """All that is known of a study now."""

    path: Path
    about: Mapping[str, Any]
    goal: Goal
    trials: Sequence[Trial]
    stays: Sequence[Stay]
    """When each run was at work, in the order they began."""
    now: float
    is_running: bool
    parents: Mapping[str, Result]
    """How the parents' runs ended, by name."""

    @property
    def command(self) -> str:
        """What started it, and goes on with it."""
        words = self.about["words"]
        flag = [] if any(each.startswith("sweep=") for each in words) else ["-m"]
        return pasteable(["python", "-m", "rlhf", *flag, *words, *self.flags])

    @property
    def flags(self) -> list[str]:
        """What every command of it needs beside overrides: the folder of options of one's own."""
        own = self.about.get("config_dir")
        return [f"--config-dir={own}"] if own else []

    @property
    def keys(self) -> list[str]:
        """The swept keys, in the order of the space."""
        return list(dict.fromkeys(each["key"] for each in self.about["space"]))

    @property
    def taken_seconds(self) -> float:
        """For how long places were taken, added up: what is paid for, parents and runs that came to nothing included."""
        return sum(each.seconds(self.now) for each in self.stays)

    @property
    def taken_usd(self) -> float | None:
        """What that cost; None where the price of some of it is not known."""
        costs = [None if (price := each.usd_per_second) is None else each.seconds(self.now) * price for each in self.stays]
        known = [each for each in costs if each is not None]
        return sum(known) if known and len(known) == len(costs) else None

    @property
    def seconds(self) -> float:
        """Of all runs, parents included, added up: their own time, as in `result.json`."""
        ended = [each.result.seconds for each in self.trials if each.result]
        return sum(ended) + sum(each.seconds for each in self.parents.values())

    @property
    def usd(self) -> float | None:
        """What their own time cost; None where no price is known."""
        costs = [each.result.cost_usd for each in self.trials if each.result]
        known = [each for each in [*costs, *(each.cost_usd for each in self.parents.values())] if each is not None]
        return sum(known) if known else None

    @property
    def wall_seconds(self) -> float:
        """For how long it ran, over all sessions."""
        starts = [each["began"] for each in self.about["sessions"]]
        total = 0.0
        for each, after in zip(self.about["sessions"], [*starts[1:], math.inf], strict=True):
            if each["ended"] is None and self.is_running and after == math.inf:
                total += self.now - each["began"]
            else:  # of one that was killed, as long as its runs
                signs = [stay.ended or stay.began for stay in self.stays if each["began"] <= stay.began < after]
                total += (each["ended"] or max(signs, default=each["began"])) - each["began"]
        return total


def read(path: Path, tracks: Tracks | None = None, running: bool | None = None) -> Study:
    """The study in ``path``; ``tracks`` keeps what was read of its runs before.

    ``running`` is whether a sweeper is at work on it; None: whether its lock is held.

    Raises:
        Fault: it has no ``study.json`` that can be read.
    """
    book = logbook.read(path)
    try:
        assert logbook.is_whole(book)
        objectives = tuple(Objective(**each) for each in book["objectives"])
        goal = Goal(objectives, tuple(map(Constraint.parse, book["constraints"])))
        stays = sorted((Stay(**each) for each in book["runs"]), key=lambda stay: stay.began)
        entries = [_entry(each) for each in book["trials"]]
    except (TypeError, AssertionError, Fault):
        raise Fault(f"{path / logbook.NAME}: is missing or not whole; the study's own command writes it anew") from None
    running = is_at_work(path) if running is None else running
    shown = table.differing(entries)
    found = _on_common_seeds([_trial(path, each, goal, shown, running, tracks or Tracks()) for each in entries])
    places = [path / folder for folder in dict.fromkeys(stay.folder for stay in stays) if folder.startswith(PARENTS)]
    parents = {each.name: told for each in places if (told := Result.read(each / "result.json"))}
    return Study(path, book, goal, found, stays, time.time(), running, parents)


def _entry(row: Mapping[str, Any]) -> Entry:
    parts = (row[name] for name in ("overrides", "point", "status", "reason"))
    return Entry(row["number"], 0, row.get("digest", ""), *parts)


def shown(value: str) -> str:
    """The value of a setting; of a long number four digits."""
    try:
        return value if len(value) < LONG else short(float(value))
    except ValueError:
        return value


def pasteable(words: Sequence[str]) -> str:
    """A command for a shell; words that hold single quotes, as constraints do, in double ones."""
    return " ".join(f'"{each}"' if "'" in each and not re.search(r'["$`\\!]', each) else shlex.quote(each) for each in words)


def _on_common_seeds(trials: Sequence[Trial]) -> list[Trial]:
    """The same with what those are ranked by that may be called the best."""
    good = [each for each in trials if each.is_good]
    found = on_common_seeds([(each.measured, each.runs) for each in good])
    ranked_by = {each.number: by for each, by in zip(good, found, strict=True)}
    return [replace(each, ranked_by=ranked_by.get(each.number, each.measured)) for each in trials]


def _trial(path: Path, entry: Entry, goal: Goal, shown: Sequence[str], running: bool, tracks: Tracks) -> Trial:
    folder = path / TRIALS / f"{entry.number:04d}"
    result = None
    if entry.status != RUNNING:
        gone = Result(Status[entry.status], "", "", "", "", reason=entry.reason, message="its result was deleted")
        result = Result.read(folder / "result.json") or gone
    elif not running:
        entry = replace(entry, status=Status.lost.name, reason="sweeper")
    settings = table.settings(entry)
    values = goal.values(result) if result else None
    several = finished(folder)
    tracked = tracks.of(folder, result)
    paces = [each.pace for each in tracked if each.pace is not None]
    measured = measurements(result) if result else {}
    if result is not None and result.status not in COUNT:  # what it had measured when it broke is no outcome of its settings
        outcomes = {f"{each.metric}{end}" for each in goal.objectives for end in ("", "_low", "_high")}
        measured = {name: value for name, value in measured.items() if name not in outcomes}
    if paces:
        measured[PACE] = sum(paces) / len(paces)
    return Trial(
        entry=entry,
        settings={key: settings.get(key, "") for key in shown},
        result=result,
        values=None if values is None else tuple(values),
        broken=goal.broken(result) if result is not None and result.status is Status.finished else [],
        seeds=by_seed(several, goal.objectives[0].metric),
        runs={seed: measurements(each) for seed, each in (runs_of(folder, result) if result else several).items()},
        tracks=tracked,
        measured=measured,
        ranked_by=measured,
    )
