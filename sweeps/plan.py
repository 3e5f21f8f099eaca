"""What a study runs next: the cells of a characterisation from the least memory to the most, or what a sampler proposes."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from rlhf.result import Result, Status
from sweeps.cells import Cell, Composer, label
from sweeps.counted import counted
from sweeps.memory import Demand, from_least
from sweeps.record import Entry, Proposal, Record

COUNTED = 100_000
"""Points up to which a space is listed, to see when all of it is known."""
PROPOSALS = 200
"""In a row that lead to nothing new, after which a sampler has nothing left to say."""

DOMINATED = "dominated by #"
"""How the reason begins of a cell that was settled without a run; the number of the other follows."""

OUT_OF_MEMORY = (Status.infeasible.name, "oom")


@dataclass(frozen=True)
class Next:
    """A cell to begin, or to settle without a run because it needs no less than cell ``too_much`` anywhere."""

    cell: Cell
    proposal: Proposal | None = None
    too_much: int | None = None


@dataclass
class TooMuch:
    """Cells that ran out of memory, and so all that need more of everything."""

    _demands: list[tuple[int, Demand]] = field(default_factory=list)

    def add(self, number: int, cell: Cell) -> None:
        """Cell ``number`` ran out of memory."""
        self._demands.append((number, Demand.of(cell.settings)))

    def covers(self, cell: Cell) -> int | None:
        """The first of them that needs at most as much of everything as ``cell``, if there is one."""
        demand = Demand.of(cell.settings)
        return next((number for number, less in self._demands if demand.covers(less)), None)


class Plan(ABC):
    """An order of cells. ``due`` counts those that are known to be run."""

    due: int
    why_ended = ""
    """Why nothing more comes, where that is not plain."""

    def __init__(self) -> None:
        self._too_much = TooMuch()

    @abstractmethod
    def next(self) -> Next | None:
        """What to begin or settle now, which the caller then does; None while, or since, there is nothing."""

    def ended(self, number: int, cell: Cell, result: Result) -> None:
        """Hear how a cell came out."""
        if (result.status.name, result.reason) == OUT_OF_MEMORY:
            self._too_much.add(number, cell)


class Characterization(Plan):
    """All cells, in the order of growing memory; those that are not due keep the row they have."""

    def __init__(self, cells: list[Cell], is_due: Callable[[Cell], bool], entries: dict[str, Entry]) -> None:
        super().__init__()
        order = from_least([Demand.of(cell.settings) for cell in counted(cells, "sorting cells by the memory they need")])
        self.cells = [cells[index] for index in order]
        for cell in self.cells:
            entry = entries.get(cell.digest)
            if entry is not None and (entry.status, entry.reason) == OUT_OF_MEMORY and not is_due(cell):
                self._too_much.add(entry.number, cell)
        self._todo = [cell for cell in self.cells if is_due(cell)]
        self.due = len(self._todo)

    def next(self) -> Next | None:
        """The next cell in order."""
        if not self._todo:
            return None
        cell = self._todo.pop(0)
        return Next(cell, too_much=self._too_much.covers(cell))


class Tuning(Plan):
    """First what was cut off, then proposals, until there are ``trials`` of them or nothing new comes."""

    def __init__(self, record: Record, composer: Composer, trials: int | None, is_due: Callable[[Entry], bool]) -> None:
        super().__init__()
        entries = record.entries().values()
        due = {entry.number for entry in entries if is_due(entry)}
        again = [today for entry in entries if entry.number in due and (today := _cell_today(entry, composer)) is not None]
        done = sum(entry.number not in due and not entry.reason.startswith(DOMINATED) for entry in entries)
        for entry in entries:
            did_not_fit = (entry.status, entry.reason) == OUT_OF_MEMORY and entry.number not in due
            if did_not_fit and (cell := _cell_today(entry, composer)) is not None:
                self._too_much.add(entry.number, cell)
        self._record, self._composer, self._again = record, composer, again
        self._left = None if trials is None else max(0, trials - done - len(again))
        self._idle = 0
        """Proposals in a row that led to no run."""
        self._unseen: set[str] | None = None
        """Points of a small space that nobody has proposed yet; None: too many to list."""
        if composer.space.size <= COUNTED:
            self._unseen = {label(point) for point in composer.space.points()}
            self._unseen -= {label(entry.point) for entry in entries if _cell_today(entry, composer) is not None}
        self.due = len(again) + (self._left or 0)

    def next(self) -> Next | None:
        """The next trial."""
        if self._again:
            again = self._again.pop(0)
            return Next(again, too_much=self._too_much.covers(again))
        if self._left == 0:
            return None
        entries = self._record.entries()
        while self._idle < PROPOSALS:
            if self._unseen is not None and not self._unseen:
                self.why_ended = "all points of the space are known"
                return None
            proposal = self._record.propose()
            if self._unseen is not None:
                self._unseen.discard(label(proposal.point))
            cell = self._composer.cell(proposal.point)
            if not isinstance(cell, Cell) or not self._composer.space.holds(proposal.point):
                self._record.pass_over(proposal)
            elif (known := entries.get(cell.digest)) is not None:
                self._record.pass_over(proposal, known)
            else:
                too_much = self._too_much.covers(cell)
                if too_much is None:
                    self._idle, self._left = 0, None if self._left is None else self._left - 1
                else:
                    self._idle += 1
                return Next(cell, proposal, too_much)
            self._idle += 1
        self.why_ended = f"the sampler proposed nothing new {PROPOSALS} times in a row"
        return None

    def ended(self, number: int, cell: Cell, result: Result) -> None:
        """Hear how a cell came out; the sampler may then have something new to say."""
        super().ended(number, cell, result)
        self._idle = 0


def _cell_today(entry: Entry, composer: Composer) -> Cell | None:
    """The cell of ``entry``; None where its point is another one today, since fixed settings have changed."""
    cell = composer.cell(entry.point)
    return cell if isinstance(cell, Cell) and cell.digest == entry.digest else None
