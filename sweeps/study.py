"""A study: a grid of runs from one command, each in its own process, every cell of which ends as a row.

``outputs/studies/<name>/`` holds ``study.db`` (Optuna), ``trials.csv`` and ``trials/<number>/`` with the frozen
``config.yaml``, ``overrides.txt``, ``log.txt`` and ``result.json``. The same command again runs only what has no end
that counts: new cells, those that were stopped, lost or could not use what the user named, and deleted results.
"""

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from omegaconf import OmegaConf

from launchers import outcome, pool
from launchers.slots import Slots
from launchers.warm import Warm
from rlhf.command_line import EXIT_OK, EXIT_STOPPED, report_faults
from rlhf.config import Device
from rlhf.fault import Fault
from rlhf.result import Result, Status
from rlhf.sealed import make_folder, write_atomically
from sweeps import table
from sweeps.cells import RUNNING, Cell, Entry, compose_all, study_name
from sweeps.progress import Progress, summary
from sweeps.record import Record

AGAIN = {Status.stopped.name, Status.lost.name}


def main(arguments: list[str], command: Callable[[Path], list[str]] | None = None) -> int:
    """Run the grid in ``arguments`` and return the exit code: 0 whatever the trials came to, 2 for faults, 75 if stopped.

    Needs an initialised Hydra. ``command`` gives the process of a trial folder; null: that of a real trial.
    """
    with ExitStack() as held:
        try:
            cells, faults = compose_all(arguments)
            if faults:
                return report_faults(faults)
            run = cells[0].run
            name = run.sweep.name or study_name(arguments, run.stage)
            folder = held.enter_context(_only_sweeper(Path(run.paths.outputs) / "studies" / name))
            study = _Study(folder, cells)
        except Fault as error:
            return report_faults([str(error)])
        except KeyboardInterrupt:
            print("stopped before a trial began", file=sys.stderr)
            return EXIT_STOPPED
        return study.run(command)


class _Study:
    """One session with a study folder, which nobody else has open."""

    def __init__(self, folder: Path, cells: list[Cell]) -> None:
        self._folder, self._cells = folder, cells
        self._stage, self._sweep = cells[0].run.stage, cells[0].run.sweep
        self._record = Record(folder, folder.name, self._stage)
        self._begun: dict[Path, tuple[Cell, Entry]] = {}
        self._closed: set[str] = set()
        self._settle()
        self._record.declare([cell.swept for cell in cells])
        entries = self._record.entries()
        self._todo = [cell for cell in cells if self._is_due(cell, entries.get(cell.digest))]
        self._progress = Progress(len(cells), len(cells) - len(self._todo), self._sweep.parallel)

    def run(self, command: Callable[[Path], list[str]] | None) -> int:
        """Run what is due, then show the table; return the exit code."""
        print(self._progress.opening(self._folder), flush=True)
        jobs = pool.each(self._begin(cell, command) for cell in self._todo)
        slots = Slots.here(self._sweep.parallel, self._sweep.threads)
        with Warm(pool.environment(), _say) if command is None and self._todo else nullcontext() as warm:
            interrupted = pool.run(jobs, slots, self._end, _say, warm=warm)
        rows = self._write_rows()
        table.show(rows, self._folder.name)
        left = len([cell for cell in self._todo if cell.digest not in self._closed]) if interrupted else 0
        print("\n".join(summary(self._folder, self._ended_entries(), rows, self._stage, left)))
        return EXIT_STOPPED if left else EXIT_OK

    def _settle(self) -> None:
        """Trials that ran when a sweeper died end here: by the result they still wrote, else as lost."""
        for entry in self._record.entries().values():
            if entry.status == RUNNING:
                folder = self._trial_folder(entry.number)
                run = next((cell.run for cell in self._cells if cell.digest == entry.digest), self._cells[0].run)
                folder.mkdir(parents=True, exist_ok=True)
                result = outcome.read(folder) or outcome.lost(run)
                write_atomically(folder / "result.json", result.to_json())
                self._record.end(entry, result)

    def _is_due(self, cell: Cell, entry: Entry | None) -> bool:
        if entry is None or entry.status in AGAIN or entry.reason == "fault" or cell.run.fresh:
            return True
        return outcome.read(self._trial_folder(entry.number)) is None

    def _begin(self, cell: Cell, command: Callable[[Path], list[str]] | None) -> pool.Job:
        """Freeze the cell into its folder, so that no later edit of the configuration reaches it, and record its start."""
        entries = self._record.entries()
        known = entries.get(cell.digest)
        number = known.number if known else max((entry.number for entry in entries.values()), default=-1) + 1
        folder = self._trial_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").unlink(missing_ok=True)
        overrides = [*cell.overrides, *cell.companions]
        composed = cell.composed.copy()
        if cell.run.tracker.group is None:
            composed.tracker.group = self._folder.name
            overrides.append(f"tracker.group={self._folder.name}")
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(composed, resolve=True))
        write_atomically(folder / "overrides.txt", "\n".join(overrides) + "\n")
        entry = self._record.begin(number, cell.digest, cell.overrides, cell.swept)
        self._begun[folder] = cell, entry
        print(self._progress.started(entry), flush=True)
        own = command(folder) if command is not None else None
        devices = 0 if cell.run.device is Device.cpu else cell.run.ranks
        return pool.Job(cell.label, folder, own, devices=devices, ranks=cell.run.ranks, timeout=self._sweep.trial_timeout)

    def _end(self, end: pool.End) -> None:
        cell, entry = self._begun.pop(end.job.folder)
        result = outcome.result_of(end, cell.run)
        write_atomically(end.job.folder / "result.json", result.to_json())
        self._record.end(entry, result)
        if result.status.name not in AGAIN:
            self._closed.add(cell.digest)
        self._write_rows()
        print(self._progress.ended(entry, result, self._stage, end.seconds), flush=True)

    def _write_rows(self) -> list[dict[str, str]]:
        entries = self._ended_entries()
        rows = [table.row(entry, self._result(entry), self._stage) for entry in entries]
        return table.write(self._folder / "trials.csv", entries, rows)

    def _ended_entries(self) -> list[Entry]:
        return [entry for entry in self._record.entries().values() if entry.status != RUNNING]

    def _result(self, entry: Entry) -> Result:
        """The result in the trial's folder; if that was deleted, what the record still knows."""
        found = outcome.read(self._trial_folder(entry.number))
        gone = Result(Status[entry.status], self._stage, "", "", "", reason=entry.reason, message="its result was deleted")
        return found or gone

    def _trial_folder(self, number: int) -> Path:
        return self._folder / "trials" / f"{number:04d}"


def _say(line: str) -> None:
    print(line, flush=True)


@contextmanager
def _only_sweeper(folder: Path) -> Iterator[Path]:
    """Hold the study's lock, which ends with this process.

    Raises:
        Fault: another process holds it, or the folder cannot be written.
    """
    make_folder(folder, "paths.outputs")
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = f"{folder}: process {lock.read().strip() or 'unknown'} is running this study"
            raise Fault(f"{holder}; wait for it, or choose another sweep.name") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield folder
