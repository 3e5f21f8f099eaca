"""One session of a study: what starts when, and what an ended run means for its trial. Decides; starts nothing itself.

There is no barrier: whenever there is room the next run is chosen with all that is known by then. A trial is one run, or
one for each seed, one after the other; parents that are missing run first, once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from launchers import outcome, pool
from launchers.pages import Pages
from launchers.slots import devices_of
from launchers.trial import SINCE, WITHOUT_PAGE
from rlhf import lineage
from rlhf.config import Run, SweepConfig, SweepMode
from rlhf.fault import Fault
from rlhf.price import per_second
from rlhf.result import Result, Status
from rlhf.sealed import write_atomically
from sweeps.cells import Cell, Composer
from sweeps.judge import Judge
from sweeps.limits import Limits
from sweeps.logbook import Logbook
from sweeps.parents import Asked, ChainOf, Parent, Parents, parent_result
from sweeps.plan import DOMINATED, Next, Plan
from sweeps.progress import Progress
from sweeps.record import Entry
from sweeps.seeds import by_seed, is_hopeless, joined, with_seeds
from sweeps.space import Space
from sweeps.trials import AGAIN, PARENTS, Trials


@dataclass
class Open:
    """A trial that has begun."""

    entry: Entry
    cell: Cell
    seeds: list[int]
    """Still to run."""
    results: dict[int, Result] = field(default_factory=dict)
    """Finished runs by seed."""
    asked: Asked | None = None
    """Asks what its next run, which is frozen, hangs on."""
    awaits: frozenset[str] | None = None
    """Parents of its next run; None until they are known."""
    said: bool = False
    """Whether the person knows that it started."""
    seconds: float = 0.0


class Session:
    """The state of a study while it runs."""

    def __init__(
        self,
        sweep: SweepConfig,
        composer: Composer,
        trials: Trials,
        plan: Plan,
        progress: Progress,
        book: Logbook,
    ) -> None:
        self.trials, self.progress, self.book = trials, progress, book
        self._sweep, self._composer, self._plan = sweep, composer, plan
        self._seeds = trials.seeds
        self._limits = Limits(sweep, trials, book)
        self._open: list[Open] = []
        self._running: dict[Path, Open | Parent] = {}
        self._parents = Parents()
        self._judge = Judge(sweep, trials.goal.objectives)
        self._folders = {entry.number: trials.path(entry.number) for entry in trials.record.entries().values()}
        self.command: Callable[[Path], list[str]] | None = None
        """The process of a run; None: the pool's own way."""
        self.pages: Pages | None = None
        """Writes the pages of runs; None: they write their own."""
        self.chain_of: ChainOf | None = None
        """Tells which parents a trial hangs on; None: its run sees to them itself."""
        self._best = trials.best_by_seed()
        """Of the trial that is best so far: the first objective by seed."""
        self._closed = 0
        self.why_ended = ""
        """Why no further trial began, where that is not plain."""

    @property
    def left(self) -> int:
        """Trials known to be due that have no end that counts."""
        return max(0, self._plan.due - self._closed)

    @property
    def mode(self) -> SweepMode:
        """Of the study."""
        return self._sweep.mode

    @property
    def space(self) -> Space:
        """Of the study."""
        return self._composer.space

    @property
    def unbounded(self) -> bool:
        """Whether nobody knows how many trials are to come."""
        return self.mode is SweepMode.tune and self._sweep.trials is None

    def say(self, text: str) -> None:
        """A line for the person."""
        print(text, flush=True)

    def tick(self, running: Sequence[pool.Running]) -> None:
        """Answer the trials that wait for a verdict."""
        self._judge.watch(self._folders)
        if self.pages is not None:
            self.pages.tick()

    # what starts

    def next_job(self, free: int) -> pool.Job | pool.Later | None:
        """The job to start now: of a trial that has begun, of a parent somebody waits for, of a new trial."""
        while True:
            for trial in list(self._open):
                if not self._is_running(trial) and (job := self._job_of(trial)) is not None:
                    return job
            awaited = frozenset[str]().union(*(trial.awaits or () for trial in self._open))
            for parent in self._parents.startable(awaited):
                return self._parent_job(parent)
            waiting = len(self._open) - sum(isinstance(each, Open) for each in self._running.values())
            if waiting > free or (found := self._next_trial()) is None:
                return pool.LATER if self._running or self._open else None
            self._begin(found)

    def _next_trial(self) -> Next | None:
        if reached := self._limits.reached():
            self.why_ended = reached
            return None
        if (again := self._promoted()) is not None:
            return again
        found = self._plan.next()
        self.why_ended = self._plan.why_ended
        return found

    def _promoted(self) -> Next | None:
        """A pruned trial that is among the best after all, to go on from its checkpoint."""
        begun = {trial.entry.number for trial in self._open}
        by_number = {entry.number: entry for entry in self.trials.record.entries().values()} if self._judge.rules else {}
        for number in self._judge.promotable({each: self._folders[each] for each in by_number}, running=begun):
            cell = self._composer.cell(by_number[number].point)
            if isinstance(cell, Cell):
                self._judge.readmit(self._folders[number])
                self._closed -= 1
                self.say(self.progress.readmitted(by_number[number]))
                return Next(cell)
        return None

    def _begin(self, found: Next) -> None:
        entry, kept = self.trials.begin(found)
        self._folders[entry.number] = self.trials.path(entry.number)
        if found.too_much is not None:
            run = found.cell.run
            reason = f"{DOMINATED}{found.too_much}"
            message = f"needs no less of anything than {found.too_much:04d}, which ran out of memory; not run"
            result = Result(Status.infeasible, run.stage, run.model.name, "", "", reason=reason, message=message, seed=run.seed)
            self.trials.end(entry, result)
            self.book.write()
            self._closed += found.proposal is None
            self.say(self.progress.settled(entry, result))
            return
        known = {seed: kept[seed] for seed in self._seeds if seed in kept}
        trial = Open(entry, found.cell, [seed for seed in self._seeds if seed not in kept], known)
        self._open.append(trial)
        if not trial.seeds:
            self._end(trial, joined([*known.values()], len(self._seeds)))

    def _job_of(self, trial: Open) -> pool.Job | None:
        """The next run of a trial, unless it waits for something, or has ended for want of a parent."""
        folder, seed = self._folder(trial), trial.seeds[0]
        try:
            if trial.asked is None:
                trial.asked = self._ask(trial, folder, seed)
            if trial.awaits is None and (chain := trial.asked()) is not None:
                trial.awaits = self._parents.needed(trial.cell.run, trial.cell.composed, chain)
        except Fault as error:
            self._end(trial, _without_run(trial.cell, Status.failed, "fault", str(error)))
            return None
        if trial.awaits is None:
            return None
        if (cause := self._parents.blocking(trial.awaits)) is not None:
            run = trial.cell.run
            self._end(trial, parent_result(run.stage, run.model.name, seed, cause))
            return None
        if self._parents.awaited(trial.awaits):
            return None
        if not trial.said:
            trial.said = True
            self.say(self.progress.started(trial.entry))
        self._running[folder] = trial
        return self._job(trial.cell.label, folder, trial.cell.run)

    def _ask(self, trial: Open, folder: Path, seed: int) -> Asked:
        """Freeze the next run of a trial, and ask what it hangs on."""
        if len(self._seeds) > 1:
            cell = self._composer.cell(trial.cell.point, seed)
            assert isinstance(cell, Cell), cell
            trial.cell = cell
        self.trials.freeze(folder, trial.cell, number=trial.entry.number)
        if self.chain_of is None or not lineage.parents(trial.cell.run, trial.cell.run.stage):
            return lambda: []
        return self.chain_of(folder)

    def _parent_job(self, parent: Parent) -> pool.Job:
        parent.begun = True
        folder = self.trials.folder / PARENTS / parent.name
        trial = next(each for each in self._open if each.awaits is not None and parent.name in each.awaits)
        self.trials.freeze(folder, trial.cell, parent.composed)
        self._running[folder] = parent
        self.say(self.progress.parent_started(parent.name))
        return self._job(parent.name, folder, parent.run)

    def _job(self, name: str, folder: Path, run: Run) -> pool.Job:
        command = None if self.command is None else self.command(folder)
        self.book.started(folder, per_second(run.hardware.usd_per_hour, run.ranks))
        arguments = (f"{SINCE}{self.book.began}", *([] if self.pages is None else [WITHOUT_PAGE]))
        devices, limit = devices_of(run), self._sweep.trial_timeout
        return pool.Job(name, folder, command, arguments, devices=devices, ranks=run.ranks, timeout=limit)

    # what ends

    def ended(self, end: pool.End) -> None:
        """Hear how a run ended."""
        owner = self._running.pop(end.job.folder)
        self._page(end)
        if isinstance(owner, Parent):
            result = outcome.result_of(end, owner.run)
            write_atomically(end.job.folder / "result.json", result.to_json())
            self.book.ended(end.job.folder, result, end.seconds)
            self.book.write()
            self._parents.ended(owner, result)
            self.say(self.progress.parent_ended(owner.name, result, end.seconds))
            return
        result = outcome.result_of(end, owner.cell.run)
        if result.stage != owner.cell.run.stage:  # of a parent that it trained itself
            result = replace(result, message=f"its stage={result.stage}: {result.message}")
        write_atomically(end.job.folder / "result.json", result.to_json())
        self.book.ended(end.job.folder, result, end.seconds)
        owner.seconds += end.seconds
        seed = owner.seeds.pop(0)
        if result.status is not Status.finished:
            said = f"seed={seed}: {result.message}" if len(self._seeds) > 1 else result.message
            self._end(owner, with_seeds(replace(result, message=said), owner.results.values()))
            return
        owner.results[seed] = result
        owner.asked = owner.awaits = None
        if not owner.seeds or self._is_hopeless(owner):
            many = len(self._seeds) > 1
            self._end(owner, joined([*owner.results.values()], len(self._seeds)) if many else result)

    def end_waiting(self) -> None:
        """End the trials that have begun and wait for a run of theirs, or of a parent, which will not come."""
        for trial in list(self._open):
            result = _without_run(trial.cell, Status.stopped, "interrupted", "stopped before its run began")
            self._end(trial, with_seeds(result, trial.results.values()))

    def _page(self, end: pool.End) -> None:
        """Have the page of its run written, if that has none of today."""
        made = outcome.read(end.job.folder)
        if self.pages is not None and made is not None and (folder := Path(made.folder)).is_dir():
            page, result = folder / "report.html", folder / "result.json"
            if not page.is_file() or (result.is_file() and page.stat().st_mtime < result.stat().st_mtime):
                self.pages.add(folder)

    def _end(self, trial: Open, result: Result) -> None:
        if result.status is Status.finished and (missing := self.trials.goal.missing(result)):
            result = replace(result, message=f"{', '.join(missing)} is missing or not finite")
        self._open.remove(trial)
        self.trials.end(trial.entry, result)
        self.book.write()
        self._plan.ended(trial.entry.number, trial.cell, result)
        self._limits.ended(trial.entry, result)
        self._closed += result.status.name not in AGAIN
        self._best = self.trials.best_by_seed()
        self.say(self.progress.ended(trial.entry, result, trial.seconds))

    def _is_hopeless(self, trial: Open) -> bool:
        goal = self.trials.goal
        if self.mode is SweepMode.screen:  # an effect is told from all runs
            return False
        values = by_seed(trial.results, goal.objectives[0].metric)
        return len(goal.objectives) == 1 and is_hopeless(values, self._best, goal.objectives[0])

    def _is_running(self, trial: Open) -> bool:
        return any(each is trial for each in self._running.values())

    def _folder(self, trial: Open) -> Path:
        path = self.trials.path(trial.entry.number)
        return path if len(self._seeds) == 1 else path / str(trial.seeds[0])


def _without_run(cell: Cell, status: Status, reason: str, message: str) -> Result:
    return Result(status, cell.run.stage, cell.run.model.name, "", "", reason=reason, message=message, seed=cell.run.seed)
