"""The trials of a study on disk and in its record: begun with a frozen configuration, ended with a result, shown as rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from launchers import outcome
from rlhf.compare.seeds import was_hopeless
from rlhf.config import Run
from rlhf.result import Result, Status
from rlhf.sealed import write_atomically
from sweeps import logbook, table
from sweeps.cells import Cell
from sweeps.goal import Goal, measurements
from sweeps.plan import DOMINATED, OUT_OF_MEMORY, Next
from sweeps.record import RUNNING, Entry, Record
from sweeps.seeds import as_if_whole, by_seed, ended, finished, kept_apart, lacking, runs_of, with_seeds
from sweeps.space import text

AGAIN = {Status.stopped.name, Status.lost.name}
PARENTS = "parents"


class Ends:
    """How the trials in a study's folder ended, by their files."""

    def __init__(self, folder: Path, seeds: Sequence[int]) -> None:
        """Under several ``seeds`` a trial is their mean; of one seed alone each cell has its own."""
        self.folder, self.seeds = folder, list(seeds)

    def path(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def result(self, entry: Entry) -> Result | None:
        """The result in the trial's folder, if there is one."""
        return outcome.read(self.path(entry.number))

    def is_cut_off(self, entry: Entry) -> bool:
        """Whether a trial has no end that counts: also one that ran under fewer seeds than are asked for now, and one that
        was judged by another which has none."""
        if entry.status in AGAIN or entry.reason == "fault" or self.result(entry) is None:
            return True
        if lacking(self.path(entry.number), self.seeds):
            return True
        return entry.reason.startswith(DOMINATED) and not self._ran_out_of_memory(int(entry.reason.removeprefix(DOMINATED)))

    def _ran_out_of_memory(self, number: int) -> bool:
        result = outcome.read(self.path(number))
        return result is not None and (result.status.name, result.reason) == OUT_OF_MEMORY

    def count(self, entries: Iterable[Entry]) -> int:
        """How many of these trials ran and have an end that counts."""
        return sum(not entry.reason.startswith(DOMINATED) and not self.is_cut_off(entry) for entry in entries)

    def is_due(self, cell: Cell, entry: Entry | None) -> bool:
        """Whether the cell, recorded as ``entry``, shall run."""
        return entry is None or cell.run.fresh or self.is_cut_off(entry)


class Trials(Ends):
    """All trials of one study folder, which nobody else has open."""

    def __init__(self, folder: Path, record: Record, goal: Goal, seeds: Sequence[int]) -> None:
        """With their record, and what they are judged by."""
        super().__init__(folder, seeds)
        self.record, self.goal = record, goal

    def settle(self, run: Run) -> None:
        """End trials that ran when a sweeper died: by the result they still wrote, else as lost."""
        cut_off = logbook.cut_off(self.folder)
        for entry in self.record.entries().values():
            if entry.status == RUNNING:
                folder = self.path(entry.number)
                folder.mkdir(parents=True, exist_ok=True)
                took = sum(cut_off.get(str(each.relative_to(self.folder)), 0.0) for each in (folder, *folder.glob("*/")))
                result = outcome.read(folder) or with_seeds(outcome.lost(run, took), finished(folder).values())
                write_atomically(folder / "result.json", result.to_json())
                self.record.end(entry, result, self._told(entry, result))

    def begin(self, found: Next) -> tuple[Entry, dict[int, Result]]:
        """Give the cell a folder and record that it starts; also the runs it has had under other seeds, which count."""
        known = self.record.entries().get(found.cell.digest)
        number = known.number if known else self._next_number()
        path, fresh, several = self.path(number), found.cell.run.fresh, len(self.seeds) > 1
        path.mkdir(parents=True, exist_ok=True)
        kept = kept_apart(path) if several and not fresh else {}
        if several or fresh:  # else they would count once this trial is cut off
            for seed in ended(path).keys() - kept.keys():
                (path / str(seed) / "result.json").unlink()
        (path / "result.json").unlink(missing_ok=True)
        return self.record.begin(number, found.cell.digest, found.cell.overrides, found.cell.point, found.proposal), kept

    def _next_number(self) -> int:
        """Above all that are recorded and all folders that hold something: those are of a record that was moved away."""
        taken = [entry.number for entry in self.record.entries().values()]
        folders = (self.folder / "trials").glob("*/")
        taken += [int(each.name) for each in folders if each.name.isdigit() and any(each.iterdir())]
        return max(taken, default=-1) + 1

    def freeze(self, folder: Path, cell: Cell, composed: DictConfig | None = None, number: int | None = None) -> None:
        """Write the cell's configuration into ``folder``, so that no later edit reaches the run.

        Args:
            folder: of the run.
            cell: what is run.
            composed: the configuration of a parent, where the run is one.
            number: of the trial, which trackers show, else.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").unlink(missing_ok=True)
        overrides = [*cell.overrides, *cell.companions]
        content = (composed or cell.composed).copy()
        if cell.run.tracker.group is None:
            content.tracker.group = self.folder.name
            overrides.append(f"tracker.group={self.folder.name}")
        if number is not None:
            content.tracker.trial, content.tracker.swept = number, {key: text(value) for key, value in cell.point.items()}
        if composed is not None:
            overrides.append(f"stage={content.stage}")
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(content, resolve=True))
        write_atomically(folder / "overrides.txt", "\n".join(overrides) + "\n")

    def end(self, entry: Entry, result: Result) -> None:
        """Write down and record how a trial ended."""
        write_atomically(self.path(entry.number) / "result.json", result.to_json())
        self.record.end(entry, result, self._told(entry, result))
        self.write_rows()

    def _told(self, entry: Entry, result: Result) -> list[float] | None:
        """What a sampler hears of a trial that got fewer seeds than the others; None of any other, which it hears as it is."""
        if not was_hopeless(result):
            return None
        own, best = self.by_seed(entry), self.best_by_seed()
        return [as_if_whole(own, best)] if own.keys() & best.keys() else None

    def ended(self) -> list[tuple[Entry, Result]]:
        """Every trial that ended, with its result; of a deleted one what the record still knows."""
        found = []
        for entry in self.record.entries().values():
            if entry.status != RUNNING:
                gone = Result(Status[entry.status], "", "", "", "", reason=entry.reason, message="its result was deleted")
                found.append((entry, self.result(entry) or gone))
        return found

    def write_rows(self) -> list[dict[str, str]]:
        """Write ``trials.csv`` anew and return its rows."""
        rows = [
            table.Ended(entry, result, {seed: each.folder for seed, each in ended(self.path(entry.number)).items()})
            for entry, result in self.ended()
        ]
        several = len(self.seeds) > 1 or any(each.runs for each in rows)  # or was under several in a session before
        return table.write(self.folder / "trials.csv", rows, self.goal, several)

    def by_seed(self, entry: Entry) -> dict[int, float]:
        """The first objective of each run of a trial under several seeds, by seed; empty for a trial of one run."""
        return by_seed(finished(self.path(entry.number)), self.goal.objectives[0].metric)

    def measured(self, entry: Entry, result: Result) -> dict[int, dict[str, float]]:
        """What each run of a trial that finished measured, by seed."""
        return {seed: measurements(run) for seed, run in runs_of(self.path(entry.number), result).items()}

    def runs(self, entry: Entry, result: Result) -> list[str]:
        """The folders of the runs of a trial, one a seed."""
        return [each.folder for each in ended(self.path(entry.number)).values()] or [result.folder]

    def best_by_seed(self) -> dict[int, float]:
        """The first objective by seed, of the trial that is best among those that ran under all of several seeds."""
        seeds = self.seeds
        good = [
            entry
            for entry, result in (self.ended() if len(seeds) > 1 else [])
            if self.goal.values(result) is not None and not self.goal.broken(result)
        ]
        found = [values for entry in good if (values := self.by_seed(entry)).keys() >= {*seeds}]
        best = min if self.goal.objectives[0].direction == "minimize" else max
        return best(found, key=lambda values: sum(values[seed] for seed in seeds), default={})
