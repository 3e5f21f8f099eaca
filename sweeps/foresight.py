"""What finished runs in the same folder say of runs to come: how long, how much memory. What nobody measured is not told.

Time is that of the run with the fewest other settings, by the samples that both learn from. Memory is bounded by runs that
need no more, or no less, of anything (``sweeps.memory``), and known where a run needs just as much.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf.lineage import ASKED_READS, ONLINE, READS
from rlhf.price import per_second
from rlhf.result import Result, Status
from rlhf.runs import CONFIG
from rlhf.signature import ENGINE_READS
from sweeps.cells import flat
from sweeps.memory import Demand

NEWEST = 60
"""Runs of a stage and a model that are read."""
OF_PRICE = ("hardware.usd_per_hour", "hardware.source")
OF_NO_TIME = ("learning_rate", "critic_learning_rate", "weight_decay", "seed")
"""Settings that time does not hang on, by the last part of their key."""


@dataclass(frozen=True)
class Foreseen:
    """What a run is likely to take; None where nothing like it has been measured."""

    seconds: float | None = None
    like: str = ""
    """The run that this is told from."""
    apart: int = 0
    """Its other settings."""
    least_gib: float | None = None
    most_gib: float | None = None

    def usd(self, settings: Mapping[str, Any]) -> float | None:
        """What that costs with these ``settings``; None where no price is known."""
        price = per_second(settings.get("hardware.usd_per_hour"), float(settings["ranks"]))
        return None if price is None or self.seconds is None else self.seconds * price


@dataclass(frozen=True)
class _Known:
    name: str
    settings: Mapping[str, Any]
    result: Result


class Foresight:
    """Reads the runs of ``runs`` when they are first asked for."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._known: dict[tuple[str, str], list[_Known]] = {}

    def of(self, stage: str, model: str, settings: Mapping[str, Any]) -> Foreseen:
        """Of a run of ``stage`` with all these ``settings`` by their full keys; ``model`` names the runs it is like."""
        mine = read_by(stage, settings)
        known = self._of_stage(stage, model)
        near = [(apart(mine, each.settings), each) for each in known if _ratio(stage, mine, each.settings) is not None]
        least, most = _memory(mine, known)
        if not near:
            return Foreseen(least_gib=least, most_gib=most)
        distance, like = min(near, key=lambda pair: pair[0])
        seconds = like.result.seconds * (_ratio(stage, mine, like.settings) or 1.0)
        return Foreseen(seconds, like.name, distance, least, most)

    def _of_stage(self, stage: str, model: str) -> list[_Known]:
        if (stage, model) not in self._known:
            paths = [*self._runs.glob(f"{stage}-{model}-*/result.json")]
            newest = sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:NEWEST]
            self._known[stage, model] = [known for path in newest if (known := _read(path, stage)) is not None]
        return self._known[stage, model]


def read_by(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that ``stage`` and its engine read, and the machine."""
    groups = {*READS[stage], *ENGINE_READS, *ASKED_READS, "hardware"}
    read = {key: value for key, value in settings.items() if key.partition(".")[0] in groups and key not in OF_PRICE}
    return read | {"stage": stage}


def apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> int:
    """How many settings that time may hang on are not the same."""
    keys = {key for key in (*first, *second) if key.rpartition(".")[2] not in OF_NO_TIME}
    return sum(str(first.get(key)) != str(second.get(key)) for key in keys)


def _ratio(stage: str, mine: Mapping[str, Any], other: Mapping[str, Any]) -> float | None:
    """How many times as many samples one run learns from as another; None where their settings do not tell."""
    kind, amount = _amount(stage, mine)
    other_kind, other_amount = _amount(stage, other)
    return amount / other_amount if kind == other_kind and other_amount > 0 else None


def _amount(stage: str, settings: Mapping[str, Any]) -> tuple[str, float]:
    """Samples, where they are counted in steps or rollouts, or else passes over the data."""
    steps = settings.get(f"{stage}.{'updates' if stage in ONLINE else 'max_steps'}")
    if steps is not None:
        return "samples", float(steps) * float(settings[f"{stage}.batch_size"])
    return "epochs", float(settings.get(f"{stage}.epochs") or 0)


def _memory(mine: Mapping[str, Any], known: list[_Known]) -> tuple[float | None, float | None]:
    demand = Demand.of(mine)
    peaks = [(Demand.of(each.settings), each.result.peak_memory_gib) for each in known]
    below = [peak for other, peak in peaks if peak is not None and demand.covers(other)]
    above = [peak for other, peak in peaks if peak is not None and other.covers(demand)]
    return max(below, default=None), min(above, default=None)


def _read(path: Path, stage: str) -> _Known | None:
    result = Result.read(path)
    if result is None or result.status is not Status.finished:
        return None
    try:
        content = OmegaConf.load(path.parent / CONFIG)
        assert isinstance(content, DictConfig)
        plain = OmegaConf.to_container(content, resolve=True)
        assert isinstance(plain, dict)
        settings = read_by(stage, dict(_pairs(plain)))
        Demand.of(settings), _amount(stage, settings)
    except (OSError, OmegaConfBaseException, AssertionError, LookupError, TypeError, ValueError):
        return None  # made by another version, or torn
    return _Known(path.parent.name, settings, result)


def _pairs(content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    yield from flat({str(key): value for key, value in content.items()})
