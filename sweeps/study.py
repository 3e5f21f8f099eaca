"""A study: many runs from one command, each in its own process, every cell of which ends as a row.

``outputs/studies/<name>/`` holds ``study.db`` (Optuna), ``trials.csv``, ``study.json``, ``report.html`` and
``trials/<number>/`` with the frozen ``config.yaml``, ``overrides.txt``, ``log.txt`` and ``result.json``; of a trial under
several seeds ``trials/<number>/<seed>/``. Parents that were trained for it are in ``parents/``. The same command again runs
only what has no end that counts: new cells, those that were stopped, lost or could not use what the user named, and deleted
results.
"""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from hydra.errors import HydraException

from launchers import pool
from launchers.pages import Pages
from launchers.slots import Slots, devices_of
from launchers.warm import Warm
from rlhf import preflight
from rlhf.command_line import EXIT_FAILED, EXIT_OK, EXIT_STOPPED, report_faults
from rlhf.config import Run, SweepMode
from rlhf.fault import Fault
from rlhf.result import Status
from rlhf.runs import STUDY_LOCK
from rlhf.sealed import make_folder
from sweeps import epochs, frame, logbook, shown
from sweeps.answer import folder as answer
from sweeps.answer import standing, terminal
from sweeps.answer.effects import effects, report_effects
from sweeps.answer.refresh import Refresher
from sweeps.answer.words import bill
from sweeps.cells import Composer, Grid, label, study_name
from sweeps.database import Away, GivenUp
from sweeps.goal import Goal
from sweeps.legal import as_judged, legal
from sweeps.logbook import Logbook
from sweeps.parents import ChainOf, asker
from sweeps.plan import Characterization, Plan, Tuning
from sweeps.progress import Progress, summary
from sweeps.record import Record
from sweeps.session import Session
from sweeps.space import Space
from sweeps.trials import Trials

Command = Callable[[Path], list[str]]
SHOWN_BY_EPOCH = 4
"""Runs whose measurements are printed for each epoch."""
ATTEMPTS, ATTEMPT_SECONDS = 5, 0.05


def main(arguments: list[str], command: Command | None = None, chain_of: ChainOf | None = None) -> int:
    """Run the study of ``arguments`` and return the exit code: 0 whatever the trials came to, 2 for faults, 75 if stopped,
    1 where its database is gone.

    Needs an initialised Hydra. ``command`` gives the process of a trial folder, and ``chain_of`` the stages it hangs on.
    """
    with ExitStack() as held:
        try:
            sweep = preflight.sweep_config(arguments)
            space = Space.of(arguments, sweep)
            composer = Composer(space)
            found = legal(composer, arguments, sweep)
            if found.faults:
                return report_faults(found.faults)
            run = found.cells[0].run
            name = study_name(space, run, arguments)
            folder = held.enter_context(_only_sweeper(Path(run.paths.outputs) / "studies" / name))
            slots = Slots.here(run.sweep.parallel, run.sweep.threads)
            session = _session(folder, found, composer, slots, arguments, held)
        except (Fault, HydraException) as error:
            return report_faults([str(error).strip().splitlines()[0]])
        except KeyboardInterrupt:
            print("stopped before a trial began", file=sys.stderr)
            return EXIT_STOPPED
        for rule, count in found.left_out.items():
            print(f"left out, {count} of the combinations: {rule}")
        for remark in slots.remarks(devices_of(run)):
            print(remark, file=sys.stderr)
        try:
            code = _run(run, session, slots, command, chain_of)
            if getattr(getattr(run, run.stage), "eval_every_epoch", False):
                _show_epochs(session.trials)
        except Away as away:
            print(away, file=sys.stderr)
            return EXIT_STOPPED if isinstance(away, GivenUp) else EXIT_FAILED
        except KeyboardInterrupt:  # when no trial ran any more
            print("stopped; the same command goes on", file=sys.stderr)
            return EXIT_STOPPED
        return code


def _session(folder: Path, found: Grid, composer: Composer, slots: Slots, words: list[str], held: ExitStack) -> Session:
    run = found.cells[0].run
    goal = Goal.of(run)
    record = Record(folder, run.sweep.storage, composer.space, goal, run.sweep.sampler, run.seed)
    held.callback(record.close)
    today = frame.frame(composer.space, goal, run)
    judge_again = frame.check(record.about.get("frame"), today, run.sweep.accept_changes, folder.name)
    trials = Trials(folder, record, goal, range(run.seed, run.seed + run.sweep.seeds))
    trials.settle(run)
    record.widen(trials.result, judge_again)
    record.note("frame", today)
    plan: Plan
    planned: int | None
    if run.sweep.mode is not SweepMode.tune:
        entries = record.entries()
        cells = as_judged(run, found.cells)
        plan = Characterization(cells, lambda cell: trials.is_due(cell, entries.get(cell.digest)), entries)
        planned, kept = len(found.cells), len(found.cells) - plan.due
    else:
        plan = Tuning(record, composer, run.sweep.trials, trials.is_cut_off)
        planned, kept = run.sweep.trials, trials.count(record.entries().values())
    at_once = slots.at_once(devices_of(run))
    about = logbook.about(run, composer.space, goal, words, planned, at_once, found)
    if (aside := logbook.put_aside(folder, record.entries().values())) is not None:
        print(f"{folder / logbook.NAME}: is of a record that was moved away; kept as {aside.name}, and the study begins anew")
    book = Logbook(folder, about, lambda: record.entries().values())
    progress = Progress(planned, kept, at_once, goal)
    return Session(run.sweep, composer, trials, plan, progress, book)


def _run(run: Run, session: Session, slots: Slots, command: Command | None, chain_of: ChainOf | None) -> int:
    trials = session.trials
    session.say(session.progress.opening(trials.folder))
    with Refresher(trials.folder) as page, Warm(pool.environment(), session.say) if command is None else nullcontext() as warm:
        session.book.changed = page.poke
        session.command, session.chain_of = command, chain_of if warm is None else asker(warm)
        session.pages = None if warm is None else Pages(warm, session.say)
        calls = _Calls(session)
        interrupted = pool.run(
            calls.next_job, slots, calls.ended, session.say, tick=session.tick, warm=warm, stopping=calls.stopping
        )
        if calls.away is None:
            session.end_waiting()
        if session.pages is not None:
            session.pages.finish()
        if calls.away is not None:
            raise calls.away
        rows = trials.write_rows()
        session.book.close()
    found = answer.read(trials.folder, running=False)
    terminal.console().print(terminal.cells(found, standing.of(found)))
    left = session.left if interrupted else 0
    print(bill(found))
    print("\n".join(summary(trials, session.mode, left, session.why_ended)))
    if session.mode is SweepMode.screen and not left:
        print("\n".join(report_effects(found)))
    shown.show(run, trials, session.space, effects(found)[0], rows, left)
    return EXIT_STOPPED if interrupted and (left or session.unbounded) else EXIT_OK


class _Calls:
    """What the pool calls of a session. Once the database is away for good the study stops as after Ctrl-C, and how its runs
    end is kept in their folders."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._stopping = False
        self.away: Away | None = None

    def next_job(self, free: int) -> pool.Job | pool.Later | None:
        """The job to start now."""
        try:
            return self._session.next_job(free)
        except Away as away:
            self._stop(away)
            return None

    def ended(self, end: pool.End) -> None:
        """Hear how a run ended."""
        try:
            self._session.ended(end)
        except Away as away:
            self._stop(away)

    def stopping(self) -> None:
        """Hear of a signal: nothing more is waited for."""
        self._stopping = True
        self._session.trials.record.stop_waiting()

    def _stop(self, away: Away) -> None:
        if self.away is None:
            self.away = away
            if not self._stopping:  # a second signal would kill what runs
                signal.raise_signal(signal.SIGINT)


def _show_epochs(trials: Trials) -> None:
    """What each pass over the data did, run by run."""
    finished = [(entry, result) for entry, result in trials.ended() if result.status is Status.finished]
    for entry, result in finished[:SHOWN_BY_EPOCH]:
        epochs.show(Path(result.folder), result.stage, f"{entry.number:04d} {label(entry.point)}".rstrip())


@contextmanager
def _only_sweeper(folder: Path) -> Iterator[Path]:
    """Hold the study's lock, which ends with this process.

    Raises:
        Fault: another process holds it, or the folder cannot be written.
    """
    make_folder(folder, "paths.outputs")
    with (folder / STUDY_LOCK).open("a+") as lock:
        if not _held(lock):
            lock.seek(0)
            holder = f"{folder}: process {lock.read().strip() or 'unknown'} is running this study"
            raise Fault(f"{holder}; wait for it, or choose another sweep.name")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield folder


def _held(lock: IO[str]) -> bool:
    """Whether the lock is ours now; tried for a moment, since who only looks at a study has it for an instant."""
    for _ in range(ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(ATTEMPT_SECONDS)
        else:
            return True
    return False
