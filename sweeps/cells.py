"""The cells of a grid: composed, checked across fields, and told apart by what they would compute."""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf import checks, preflight
from rlhf.config import Run
from rlhf.fault import Fault

OF_THE_STUDY = ("sweep", "paths", "tracker", "fresh", "stage")
"""Parts of a run that are one and the same for a whole study; all but the stage do not make a cell another cell."""

NAMED_CELLS = 3
RUNNING = "running"


@dataclass(frozen=True)
class Cell:
    """One job of a grid. ``digest`` names what it would compute: equal digests are the same cell."""

    overrides: list[str]
    companions: list[str]
    swept: dict[str, Any]
    composed: DictConfig
    run: Run
    digest: str

    @property
    def label(self) -> str:
        """The swept values, as one would type them."""
        return label(self.swept)


@dataclass(frozen=True)
class Entry:
    """A cell as recorded. ``status`` is a ``Status`` by name, or `running`; ``number`` names its folder under ``trials/``."""

    number: int
    trial: int
    digest: str
    overrides: list[str]
    swept: dict[str, Any]
    status: str
    reason: str


def label(swept: dict[str, Any]) -> str:
    """Swept values, as one would type them."""
    return " ".join(f"{key}={text(value)}" for key, value in swept.items()) or "the only cell"


def text(value: Any) -> str:
    """A value as it is written on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def compose_all(arguments: list[str]) -> tuple[list[Cell], list[str]]:
    """Every different cell of the grid in ``arguments``, in order, and all their faults. Needs an initialised Hydra."""
    try:
        parsed = OverridesParser.create().parse_overrides(arguments)
        grid = preflight.cells(arguments)
    except (HydraException, Fault) as error:
        return [], [_first_line(error)]
    swept_at = [place for place, override in enumerate(parsed) if override.is_sweep_override()]
    faults = [_of_the_study(parsed[place]) for place in swept_at if _part(parsed[place]) in OF_THE_STUDY]
    if faults:
        return [], faults
    cells: dict[str, Cell] = {}
    found: dict[str, list[str]] = {}
    companions: dict[tuple[str, ...], list[str]] = {}
    for overrides in grid:
        swept = {_axis(parsed[place]): _value(overrides[place]) for place in swept_at}
        cell = _compose(overrides, swept, companions)
        if isinstance(cell, Cell):
            cells.setdefault(cell.digest, cell)
        for fault in cell if isinstance(cell, list) else checks.faults(cell.run):
            found.setdefault(fault, []).append(label(swept))
    faults = [f"{fault} ({_where(labels, len(grid))})" for fault, labels in found.items()]
    return list(cells.values()), faults + (_settings(next(iter(cells.values())).run) if cells else [])


def study_name(arguments: list[str], stage: str) -> str:
    """A name from the stage, the swept keys and the fixed overrides, so that more values go on with the same study."""
    parsed = OverridesParser.create().parse_overrides(arguments)
    swept = sorted(_axis(override) for override in parsed if override.is_sweep_override())
    plain = [override for override in parsed if not override.is_sweep_override()]
    fixed = sorted(str(override.input_line) for override in plain if _part(override) not in OF_THE_STUDY)
    return f"{stage}-{_digest([swept, fixed])}"


def _compose(overrides: list[str], swept: dict[str, Any], known: dict[tuple[str, ...], list[str]]) -> Cell | list[str]:
    """A cell or its faults; ``known`` keeps the companions, which only groups and the model decide."""
    deciding = tuple(each for each in overrides if "." not in each.partition("=")[0] or each.startswith("model."))
    try:
        if deciding not in known:
            known[deciding] = preflight.companions(list(deciding))
        companions = known[deciding]
        composed = compose("config", overrides + companions)
        missing = sorted(OmegaConf.missing_keys(composed))
        if missing:
            return [f"{key}: needs a value; write {key}=..." for key in missing]
        run = OmegaConf.to_object(composed)
        content = OmegaConf.to_container(composed, resolve=True, enum_to_str=True)
    except (HydraException, OmegaConfBaseException, Fault) as error:
        return [_first_line(error)]
    assert isinstance(run, Run) and isinstance(content, dict)
    computes = {key: value for key, value in content.items() if key == "stage" or key not in OF_THE_STUDY}
    return Cell(overrides, companions, swept, composed, run, _digest(computes))


def _settings(run: Run) -> list[str]:
    sweep, faults = run.sweep, []
    if sweep.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", sweep.name):
        faults.append(f"sweep.name={sweep.name}: names a folder; use letters, digits, `.`, `_` and `-`")
    if sweep.parallel < 1:
        faults.append(f"sweep.parallel={sweep.parallel}: must be at least 1")
    if sweep.threads is not None and sweep.threads < 1:
        faults.append(f"sweep.threads={sweep.threads}: must be at least 1, or null to divide the cores")
    if sweep.trial_timeout is not None and not sweep.trial_timeout > 0:
        faults.append(f"sweep.trial_timeout={sweep.trial_timeout}: seconds, above 0, or null for no limit")
    return faults


def _of_the_study(override: Override) -> str:
    if _part(override) == "stage":
        return f"{override.input_line}: a study compares runs of one stage; run one command a stage"
    return f"{override.input_line}: belongs to the whole study and takes one value"


def _axis(override: Override) -> str:
    """The key of a swept override; of a data set that is added to a mix, with its place."""
    return f"{override.key_or_group}@{override.package}" if override.package else override.key_or_group


def _part(override: Override) -> str:
    return re.split(r"[./@]", override.key_or_group)[0]


def _where(labels: list[str], count: int) -> str:
    if len(labels) == count:
        return "every cell" if count > 1 else labels[0]
    more = f" and {len(labels) - NAMED_CELLS} more" if len(labels) > NAMED_CELLS else ""
    return f"cell {'; '.join(labels[:NAMED_CELLS])}{more}"


def _value(override: str) -> Any:
    value = OverridesParser.create().parse_override(override).value()
    plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and abs(value) < float("inf"))
    return value if plain else override.partition("=")[2]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
