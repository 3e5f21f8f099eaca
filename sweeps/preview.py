"""What a study would run, settled before anything is started: each cell in its order, what it hangs on and what it may take.

Writes nothing into the study and opens no database: what has ended is read from the study's ``study.json`` and folders.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from launchers import pool
from launchers.slots import Slot
from rlhf.config import Run, SweepMode
from rlhf.fault import Fault
from sweeps import legal, logbook, table
from sweeps.cells import Cell, Composer, Grid, study_name
from sweeps.foresight import Foreseen, Foresight
from sweeps.plan import Characterization
from sweeps.record import FILE, Entry
from sweeps.seeds import lacking
from sweeps.trials import Ends

KEPT, REUSED, TO_RUN, DOMINATED, CANNOT = "has its row", "trained before", "to run", "will not fit", "cannot run"


@dataclass(frozen=True)
class Foretold:
    """One cell: what becomes of it, and what a run of it takes."""

    cell: Cell
    state: str
    why: str = ""
    runs: int = 0
    """Of it that are to be trained, one a seed."""
    foreseen: Foreseen = field(default_factory=Foreseen)
    parents: frozenset[str] = frozenset()
    """Result signatures of the runs it stands on."""


@dataclass
class Parent:
    """A run that cells stand on, once for all of them."""

    name: str
    role: str
    """What it is to the first of these cells: its stage, or which of several reward models (``lineage.parents``)."""
    finished: bool
    foreseen: Foreseen
    usd: float | None
    cells: int = 0


@dataclass(frozen=True)
class Preview:
    """All that is known of a study, or of a single run, before it starts."""

    folder: Path
    composer: Composer
    grid: Grid
    rows: Sequence[Foretold]
    """In the order of the plan; of a search one cell of its space."""
    parents: Sequence[Parent]
    words: Sequence[str]
    ended: int = 0
    """Trials that the study has already and that count."""

    @property
    def run(self) -> Run:
        """Any of its runs, for what all share."""
        return self.grid.cells[0].run

    @property
    def is_search(self) -> bool:
        """Whether a sampler chooses its cells one by one."""
        return self.run.sweep.mode is SweepMode.tune


def preview(composer: Composer, grid: Grid, words: Sequence[str]) -> Preview:
    """Foretell the study of ``words``, whose cells are ``grid``. Asks a process that knows torch which runs are there."""
    run = grid.cells[0].run
    folder = Path(run.paths.outputs) / "studies" / study_name(composer.space, run, words)
    seeds = [run.seed + number for number in range(run.sweep.seeds)]
    ends, known = Ends(folder, seeds), _known(folder, run.sweep.storage)
    entries = _entries(known, grid.cells)
    plan = Characterization(legal.as_judged(run, grid.cells), lambda cell: ends.is_due(cell, entries.get(cell.digest)), entries)
    due = [found for found in iter(plan.next, None) if found is not None]
    jobs = [(at, each) for at, found in enumerate(due) for each in _jobs(composer, found.cell, ends, entries)]
    asked = iter(_chains([cell for _, cell in jobs]))
    chains: list[list[tuple[Cell, dict[str, Any]]]] = [[] for _ in due]
    for at, cell in jobs:
        chains[at].append((cell, next(asked)))
    foresight, parents = Foresight(Path(run.paths.outputs) / "runs"), dict[str, Parent]()
    told = {each.cell.digest: _told(each.cell, chains[at], foresight, parents) for at, each in enumerate(due)}
    for each in (found for found in due if found.too_much is not None):
        why = f"needs no less of anything than {each.too_much:04d}, which ran out of memory"
        told[each.cell.digest] = Foretold(each.cell, DOMINATED, why)
    rows = [told.get(cell.digest) or _kept(cell, entries[cell.digest], foresight) for cell in plan.cells]
    for signature, parent in parents.items():
        parent.cells = sum(signature in row.parents for row in rows)
    needed = [each for each in parents.values() if each.cells]
    return Preview(folder, composer, grid, rows, needed, words, ends.count(known))


def _known(folder: Path, url: str | None) -> list[Entry]:
    """The rows that the study has already; none once its record was moved away, since it begins anew then."""
    book = logbook.read(folder) if url or (folder / FILE).is_file() else {}
    rows = book["trials"] if logbook.is_whole(book) else []
    return [Entry(each["number"], 0, "", each["overrides"], each["point"], each["status"], each["reason"]) for each in rows]


def _entries(known: Iterable[Entry], cells: Iterable[Cell]) -> dict[str, Entry]:
    """``known`` rows by the digest of the cell whose settings they are."""
    by_settings = {_name(table.settings(entry)): entry for entry in known}
    found = {}
    for cell in cells:
        entry = by_settings.get(_name(table.settings(Entry(0, 0, "", cell.overrides, cell.point, "", ""))))
        if entry is not None:
            found[cell.digest] = entry
    return found


def _name(settings: Mapping[str, str]) -> str:
    return json.dumps(settings, sort_keys=True)


def _jobs(composer: Composer, cell: Cell, ends: Ends, entries: Mapping[str, Entry]) -> list[Cell]:
    """The runs of a cell: itself, or under each seed that it lacks."""
    if len(ends.seeds) < 2:
        return [cell]
    entry = entries.get(cell.digest)
    missing = (lacking(ends.path(entry.number), ends.seeds) if entry is not None else []) or ends.seeds
    found = [composer.cell(cell.point, seed) for seed in missing]
    return [each for each in found if isinstance(each, Cell)]


def _chains(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Of each, the stages it consists of (``launchers.identify``); the configurations lie in a folder of the moment.

    Raises:
        Fault: the process that was asked gave no answer.
    """
    if not cells:
        return []
    print("looking which runs are there already; this reads the data", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(at) for at in range(len(cells))]
        for folder, cell in zip(folders, cells, strict=True):
            folder.mkdir()
            (folder / "config.yaml").write_text(OmegaConf.to_yaml(cell.composed, resolve=True))
        command = [sys.executable, "-m", "launchers.identify", *map(str, folders)]
        variables = pool.environment() | Slot(1).environment
        ended = subprocess.run(command, env=variables, capture_output=True, text=True)
    try:
        answer: list[dict[str, Any]] = json.loads(ended.stdout)
    except ValueError:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Fault(f"plan: which runs are there could not be told ({last}); see that the environment is whole") from None
    return answer


def _told(
    cell: Cell, chains: Sequence[tuple[Cell, dict[str, Any]]], foresight: Foresight, parents: dict[str, Parent]
) -> Foretold:
    if faults := [chain["fault"] for _, chain in chains if "fault" in chain]:
        return Foretold(cell, CANNOT, faults[0])
    waits, runs = set(), 0
    for each, chain in chains:
        *before, own = chain["stages"]
        runs += not own["finished"]
        for link in before if not own["finished"] else ():
            waits.add(link["result_signature"])
            if link["result_signature"] not in parents:  # whichever cell comes first makes it for all
                parents[link["result_signature"]] = _parent(link, each, foresight)
    own_stage = cell.run.stage
    foreseen = foresight.of(own_stage, cell.run.model.name, cell.settings)
    return Foretold(cell, TO_RUN if runs else REUSED, "", runs, foreseen, frozenset(waits))


def _parent(link: Mapping[str, Any], cell: Cell, foresight: Foresight) -> Parent:
    foreseen = foresight.of(link["stage"], cell.run.model.name, cell.settings)
    return Parent(Path(link["folder"]).name, link["name"], bool(link["finished"]), foreseen, foreseen.usd(cell.settings))


def _kept(cell: Cell, entry: Entry, foresight: Foresight) -> Foretold:
    reason = f"/{entry.reason}" if entry.reason else ""
    foreseen = foresight.of(cell.run.stage, cell.run.model.name, cell.settings)
    return Foretold(cell, KEPT, f"{entry.number:04d} {entry.status}{reason}", foreseen=foreseen)
