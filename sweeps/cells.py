"""The cells of a study: points of its space, composed, checked across fields, and told apart by what they would compute."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf import checks, composing, lineage, preflight
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.signature import signed_fields
from sweeps.counted import counted
from sweeps.space import Point, Space, text

OF_THE_STUDY = ("sweep", "paths", "tracker", "fresh", "stage")
"""Parts of a run that are one and the same for a whole study; all but the stage do not make a cell another cell."""

NAMED_CELLS = 3


@dataclass(frozen=True)
class Cell:
    """One point, ready to run. ``digest`` names what it would compute: equal digests are the same cell."""

    point: Point
    overrides: list[str]
    companions: list[str]
    composed: DictConfig
    run: Run
    digest: str

    @property
    def label(self) -> str:
        """The swept values, as one would type them."""
        return label(self.point)

    @property
    def settings(self) -> dict[str, Any]:
        """What the cell would compute, by full keys, and its stage."""
        content = OmegaConf.to_container(self.composed, resolve=True, enum_to_str=True)
        assert isinstance(content, dict)
        return dict(flat({str(key): value for key, value in content.items() if key == "stage" or key not in OF_THE_STUDY}))


@dataclass
class Composer:
    """Makes cells of points. Needs an initialised Hydra."""

    space: Space
    _composer: composing.Composer = field(default_factory=composing.Composer)

    def cell(self, point: Point, seed: int | None = None) -> Cell | list[str]:
        """The cell of ``point``, perhaps under another seed, or what is wrong with it."""
        overrides = self.space.overrides(point) + ([] if seed is None else [f"seed={seed}"])
        composed = self._compose(overrides, point)
        if isinstance(composed, Cell) and (faults := list(checks.faults(composed.run))):
            return faults
        return composed

    def _compose(self, overrides: list[str], point: Point) -> Cell | list[str]:
        try:
            composed = self._composer.compose(overrides)
            missing = sorted(OmegaConf.missing_keys(composed))
            if missing:
                return [f"{key}: needs a value; write {key}=..." for key in missing]
            run = OmegaConf.to_object(composed)
        except (HydraException, OmegaConfBaseException, Fault) as error:
            return [_first_line(error)]
        assert isinstance(run, Run)
        return Cell(point, overrides, self._composer.companions(overrides), composed, run, _digest(_computes(run)))


def _computes(run: Run) -> dict[str, Any]:
    """What its stages read of a run, and the memory it may take; a part that none of them reads makes no other cell."""
    asked: dict[str, Any] = {"stage": run.stage, "memory_gib": run.hardware.memory_gib}
    asked |= {name: asdict(getattr(run, name)) for name in ("early_stop", "parents")}
    stages = lineage.chain(run, run.stage)
    return asked | {name: signed_fields(run, name, lineage.READS[name], {"result", "system"}) for name in stages}


def label(point: Point) -> str:
    """Swept values, as one would type them."""
    return " ".join(f"{key}={text(value)}" for key, value in point.items()) or "the only cell"


@dataclass(frozen=True)
class Grid:
    """The cells of a finite space: the different legal ones, and what is to be said of the others."""

    cells: list[Cell]
    broken: dict[str, list[Point]]
    """Points that break a rule, by rule."""
    faults: list[str]
    """Rules that the user has to mend before anything starts."""

    @property
    def left_out(self) -> dict[str, int]:
        """How many points break each rule."""
        return {rule: len(at) for rule, at in self.broken.items()}


def grid(composer: Composer, points: Sequence[Point], offered: Iterable[str]) -> Grid:
    """The cells of ``points`` of a finite space.

    A rule that all cells break, or all cells with one typed value, is the user's fault. What only some combinations
    break, or a value of ``offered`` dimensions (of a sweep that somebody else wrote), leaves these cells out.
    """
    cells: dict[str, Cell] = {}
    broken: dict[str, list[Point]] = {}
    for point in counted(points, "checking combinations"):
        cell = composer.cell(point)
        if isinstance(cell, Cell):
            cells.setdefault(cell.digest, cell)
        else:
            for fault in cell:
                broken.setdefault(fault, []).append(point)
    typed = {each.key for each in composer.space.dimensions} - {*offered}
    mended = {fault for fault, at in broken.items() if not cells or _is_of_a_value(at, points, typed)}
    faults = [f"{fault} ({_where(list(map(label, at)), len(points))})" for fault, at in broken.items() if fault in mended]
    return Grid(list(cells.values()), broken, faults)


def every(composer: Composer, points: Sequence[Point]) -> Grid:
    """The cells of ``points``, all of which must be legal."""
    found = grid(composer, points, ())
    named = [
        f"{fault} (in {count} of {len(points)} cells, and a screening needs them all)"
        for fault, count in found.left_out.items()
    ]
    return Grid(found.cells, {}, found.faults or named)


def probe(composer: Composer) -> Grid:
    """One legal cell of any space, tried at its corners, or the rules that all corners break."""
    broken: list[list[str]] = []
    for point in composer.space.corners():
        cell = composer.cell(point)
        if isinstance(cell, Cell):
            return Grid([cell], {}, [])
        broken.append(cell)
    everywhere = [fault for fault in broken[0] if all(fault in faults for faults in broken)]
    return Grid([], {}, everywhere or [f"{fault} (and so on at every corner of the space)" for fault in broken[0]])


def _is_of_a_value(broken: list[Point], points: Sequence[Point], keys: Iterable[str]) -> bool:
    """Whether every point, or every one with some value for one of ``keys``, is among ``broken``."""
    if len(broken) == len(points):
        return True
    for key in keys:
        everywhere = [text(point[key]) for point in points if key in point]
        here = [text(point[key]) for point in broken if key in point]
        if any(here.count(value) == everywhere.count(value) for value in set(here)):
            return True
    return False


def misplaced(overrides: list[str]) -> list[str]:
    """Faults of sweeps over what belongs to the whole study."""
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [_of_the_study(each) for each in parsed if each.is_sweep_override() and _part(each) in OF_THE_STUDY]


def study_name(space: Space, run: Run, arguments: Iterable[str]) -> str:
    """Its own, or else one from the sweep that was chosen or the stage, the swept keys and the fixed overrides.

    Not from the values, so that more of them go on with the same study.
    """
    chosen = next((value for key, _, value in (each.partition("=") for each in arguments) if key == "sweep"), "")
    swept = sorted(each.key for each in space.dimensions)
    return run.sweep.name or f"{chosen or run.stage}-{_digest([swept, common(space)])}"


def common(space: Space) -> list[str]:
    """The overrides that are the same for all cells and make them what they are."""
    return sorted(each for each in space.fixed if re.split(r"[./@]", preflight.override_key(each))[0] not in OF_THE_STUDY)


def flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested ``content`` by their full keys."""
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _of_the_study(override: Override) -> str:
    if _part(override) == "stage":
        return f"{override.input_line}: a study compares runs of one stage; run one command a stage"
    return f"{override.input_line}: belongs to the whole study and takes one value"


def _part(override: Override) -> str:
    return re.split(r"[./@]", override.key_or_group)[0]


def _where(labels: list[str], count: int) -> str:
    if len(labels) == count:
        return "every cell" if count > 1 else labels[0]
    more = f" and {len(labels) - NAMED_CELLS} more" if len(labels) > NAMED_CELLS else ""
    return f"cell {'; '.join(labels[:NAMED_CELLS])}{more}"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_name).encode()).hexdigest()[:8]


def _name(choice: Enum) -> str:
    return choice.name


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
