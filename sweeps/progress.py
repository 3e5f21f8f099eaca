"""What a study says while it runs and when it ends: plain lines, so that a log file reads as well as a terminal."""

from pathlib import Path

from rlhf.compare.seeds import on_common_seeds, was_hopeless
from rlhf.config import SweepMode
from rlhf.result import Result, Status
from sweeps.answer.standing import Spread
from sweeps.answer.words import ends
from sweeps.cells import label
from sweeps.goal import Goal, measurements
from sweeps.record import Entry
from sweeps.seeds import are_distinguishable, is_mean
from sweeps.trials import Trials

KEPT = ("failed", "infeasible")
NAMED = 8
Judged = tuple[list[float], Entry, Result]
"""A trial with the objectives that it is ranked by."""


class Progress:
    """Counts the trials of one session. ``total`` is None where nobody knows how many there will be."""

    def __init__(self, total: int | None, kept: int, at_once: int, goal: Goal) -> None:
        self._total, self._kept, self._at_once, self._goal = total, kept, at_once, goal
        self._done, self._running, self._seconds = 0, 0, 0.0

    def opening(self, folder: Path) -> str:
        """The first line."""
        trials = "trials until the limit is reached" if self._total is None else _count(self._total, "cell")
        kept = f", {self._kept} of them have their row already" if self._kept else ""
        return f"study {folder}: {trials}{kept}; {self._at_once} at a time; {self._goal}"

    def started(self, entry: Entry) -> str:
        """The line for a trial that starts."""
        self._running += 1
        return f"{self._state()} {entry.number:04d} started: {label(entry.point)}"

    def ended(self, entry: Entry, result: Result, seconds: float) -> str:
        """The line for a trial that ended after ``seconds`` of its runs; 0 for one of which none started."""
        self._running = max(0, self._running - 1)
        stopped = result.status is Status.stopped
        if not stopped:
            self._done, self._seconds = self._done + 1, self._seconds + seconds
        how = "/".join(part for part in (result.status.name, result.reason) if part)
        measured = measurements(result) if result.status is Status.finished else {}
        values = [
            f"{each.metric} {with_interval(result, each.metric)}" for each in self._goal.objectives if each.metric in measured
        ]
        what = "".join(f", {value}" for value in values)
        why = f": {result.message.splitlines()[0]}" if result.message else ""
        left = "" if stopped else self._eta()
        return f"{self._state()} {entry.number:04d} {how}{what} in {_duration(seconds)}: {label(entry.point)}{why}{left}"

    def settled(self, entry: Entry, result: Result) -> str:
        """The line for a cell that needs no run."""
        self._done += 1
        return f"{self._state()} {entry.number:04d} {result.status.name} ({result.reason}): {label(entry.point)}"

    def readmitted(self, entry: Entry) -> str:
        """The line for a pruned trial that goes on."""
        self._done -= 1
        return f"{self._state()} {entry.number:04d} goes on: it is among the best after all"

    def parent_started(self, name: str) -> str:
        """The line for a run that trials wait for."""
        return f"{self._state()} {name} started: trials stand on it"

    def parent_ended(self, name: str, result: Result, seconds: float) -> str:
        """The line for its end."""
        how = "/".join(part for part in (result.status.name, result.reason) if part)
        why = f": {result.message.splitlines()[0]}" if result.message and result.status is not Status.finished else ""
        return f"{self._state()} {name} {how} in {_duration(seconds)}{why}"

    def _state(self) -> str:
        of = "" if self._total is None else f"/{self._total}"
        return f"[{self._kept + self._done}{of} done, {self._running} running]"

    def _eta(self) -> str:
        left = 0 if self._total is None else self._total - self._kept - self._done
        return f" (about {_duration(self._seconds / self._done * left / self._at_once)} left)" if left > 0 else ""


def summary(trials: Trials, mode: SweepMode, left: int, why_ended: str) -> list[str]:
    """The last lines: where the rows are, the best trial, what can be done next. ``left`` trials were kept from running."""
    folder = trials.folder
    lines = [why_ended] if why_ended else []
    lines += [f"all metrics: {folder / 'trials.csv'}", f"report: {folder / 'report.html'}"]
    lines += [f"the answer again: python -m rlhf study {folder}"]
    lines += _best(trials)
    kept = [entry for entry, _ in trials.ended() if entry.status in KEPT and entry.reason != "fault"]
    ran = [entry for entry in kept if (trials.path(entry.number) / "log.txt").exists()]
    if ran:
        again = "" if mode is SweepMode.tune else "; fresh=true runs every cell again"  # which a search refuses
        lines.append(
            f"failed or did not fit: {_numbers(ran)} (why: {folder}/trials/{ran[0].number:04d}/log.txt). They are not run "
            f"again by the same command unless their folder is deleted{again}"
        )
    if lost := [entry for entry, _ in trials.ended() if entry.status == Status.lost.name]:
        lines.append(f"{len(lost)} lost ({_numbers(lost)}); the same command runs them again")
    if left:
        lines.append(f"stopped with {_count(left, 'cell')} to go; the same command goes on")
    return lines


def with_interval(result: Result, metric: str) -> str:
    """A measurement; of a mean over seeds with its 95 % interval."""
    measured = measurements(result)
    value, low, high = measured[metric], measured.get(f"{metric}_low"), measured.get(f"{metric}_high")
    if low is None or high is None or not is_mean(result):
        return f"{value:.4g}"
    return f"{value:.4g} {ends(value, Spread(low, high, ''))}"


def keeping(trials: Trials) -> list[tuple[Entry, Result]]:
    """The finished trials that measured the objectives and keep all constraints."""
    goal = trials.goal
    return [(entry, result) for entry, result in trials.ended() if goal.values(result) is not None and not goal.broken(result)]


def judged(trials: Trials) -> list[Judged]:
    """Those of them that may be called the best, with the objectives they are ranked by."""
    good = [(entry, result) for entry, result in keeping(trials) if not was_hopeless(result)]
    ranked_by = on_common_seeds([(measurements(result), trials.measured(entry, result)) for entry, result in good])
    metrics = [each.metric for each in trials.goal.objectives]
    return [([by[name] for name in metrics], *each) for each, by in zip(good, ranked_by, strict=True)]


def front(goal: Goal, trials: list[Judged]) -> list[Judged]:
    """Those of ``trials`` that nothing dominates: the Pareto front, or the best of one objective."""
    return [each for each in trials if not any(goal.dominates(other[0], each[0]) for other in trials)]


def _best(trials: Trials) -> list[str]:
    """The best trial, or of several objectives the Pareto front, with the way to run them again."""
    goal, good = trials.goal, judged(trials)
    best_ones = front(goal, good)
    if not best_ones:
        kept = " and ".join(map(str, goal.constraints))
        return [f"no finished trial keeps to {kept}"] if goal.constraints else []
    if len(goal.objectives) == 1:
        (value,), best, result = best_ones[0]
        mine = trials.by_seed(best)
        others = [entry for entry, _ in keeping(trials) if entry.number != best.number and mine]
        alike = [entry for entry in others if not are_distinguishable(mine, trials.by_seed(entry))]
        equal = [entry for (other,), entry, _ in good if entry is not best and other == value and entry not in alike]
        return [
            f"best {goal.objectives[0].metric}: {with_interval(result, goal.objectives[0].metric)} in {best.number:04d}: "
            f"{label(best.point)}",
            *([f"not distinguishable from it on these seeds: {_numbers(alike)}"] if alike else []),
            *([f"just as good: {_numbers(equal)}"] if equal else []),
            *(f"run it again: python -m rlhf reproduce {each}" for each in trials.runs(best, result)),
        ]
    lines = ["nothing is better in every respect than:"]
    for _, entry, result in best_ones[:NAMED]:
        said = ", ".join(f"{each.metric} {with_interval(result, each.metric)}" for each in goal.objectives)
        lines.append(f"  {entry.number:04d} {said}: {label(entry.point)}")
    return lines


def _numbers(entries: list[Entry]) -> str:
    return ", ".join(f"{entry.number:04d}" for entry in entries[:NAMED]) + (" ..." if len(entries) > NAMED else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
