"""A run as a comparison sees it, wherever it comes from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf import lineage
from rlhf.config import STAGES, ParentsConfig, Run
from rlhf.price import per_second
from rlhf.report.changes import flat
from rlhf.report.curves import NOT_METRICS, number
from rlhf.report.folder import Row, RunFolder, last_samples
from rlhf.result import Result
from rlhf.runs import CONFIG
from rlhf.signature import ENGINE_READS

FACTS = {
    "commit": "commit",
    "changes_digest": "changes to the code",
    "python": "python",
    "device": "device",
    "threads": "threads",
    "data_digest": "data digest",
}
"""What `environment.json` says that can matter, and how it is told."""
DATA, PARENT, PACKAGE = "data digest", "parent ", "package "
MEASURED = ("seconds", "cost_usd", "peak_memory_gib")
"""Figures of a result that are compared like metrics, as `run/...`."""


@dataclass(frozen=True)
class Subject:
    """One run. What is not known of it is empty."""

    name: str
    source: str
    """Where it was read from: a folder, `wandb:...`, `published:...`."""
    stage: str
    status: str = ""
    seed: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    """Every key as text."""
    reads: frozenset[str] = frozenset()
    """Parts of the configuration that the stage, its parents or the engine read."""
    overrides: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    """Code, machine, data and parents."""
    signature: str = ""
    """Of the result: equal ones end with the same weights."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """At the end, those of the last row among them; of a run without an end, the latest ones."""
    rows: Sequence[Row] = ()
    samples: Sequence[Row] = ()
    scores: Mapping[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Of single held-out prompts, by round and name."""
    samples_a_round: float | None = None
    usd_per_second: float | None = None
    study: str = ""
    swept: frozenset[str] = frozenset()
    """Keys that the study varies."""

    @property
    def last_scores(self) -> Mapping[str, Sequence[float]]:
        """Those of the last evaluation."""
        return self.scores[max(self.scores)] if self.scores else {}

    @property
    def last_samples(self) -> list[Row]:
        """Those of the last evaluation."""
        return last_samples(self.samples)


def of_folder(run: RunFolder) -> Subject:
    """The run in a folder of `outputs/runs`."""
    saved = cast(DictConfig, OmegaConf.load(run.path / CONFIG))
    config = texts(saved)
    result = run.result
    return Subject(
        name=run.path.resolve().name,
        source=str(run.path),
        stage=run.stage,
        status=result.status.name if result else "not ended",
        seed=seed_of(config, result.seed if result else None),
        config=config,
        reads=reads_of(saved, run.stage),
        overrides=run.overrides,
        facts=_facts(run.environment, result),
        signature=result.result_signature if result else "",
        metrics=_metrics(run.metrics, result),
        rows=run.metrics,
        samples=[row for row in run.samples if "round" in row and "prompt" in row],
        scores={
            at: {name: [number(value) for value in values] for name, values in each.items()} for at, each in run.scores.items()
        },
        samples_a_round=_positive(config.get(f"{run.stage}.batch_size")),
        usd_per_second=price(config),
    )


def texts(saved: DictConfig) -> dict[str, str]:
    """Every key that was saved, as text in the form that today's schema gives it, where it knows the key."""
    try:
        whole = flat(OmegaConf.merge(OmegaConf.structured(Run), saved))
    except OmegaConfBaseException:  # a key that is gone since
        return flat(saved)
    return {key: whole.get(key, value) for key, value in flat(saved).items()}


def reads_of(saved: DictConfig, stage: str) -> frozenset[str]:
    """The parts of the configuration that can matter for a run of ``stage``; all of them for a stage nobody knows."""
    if stage not in STAGES:
        return frozenset(map(str, saved))
    brought = {name: OmegaConf.select(saved, f"parents.{name}") for name in STAGES if name in ParentsConfig.__annotations__}
    known = OmegaConf.create({"parents": brought})
    for key in (*(f"{each}.init" for each in STAGES), "reward.kind"):
        if (value := OmegaConf.select(saved, key)) is not None:
            OmegaConf.update(known, key, value)
    try:
        stages: Sequence[str] = lineage.chain(cast(Run, OmegaConf.merge(OmegaConf.structured(Run), known)), stage)
    except OmegaConfBaseException:  # too little is known of it
        stages = (*lineage.BUILDS_ON[stage], stage)
    return frozenset((*ENGINE_READS, *lineage.ASKED_READS)).union(*(lineage.READS[each] for each in stages))


def seed_of(config: Mapping[str, str], otherwise: int | None = None) -> int | None:
    """The run's seed."""
    text = config.get("seed", "")
    return int(text) if text.lstrip("-").isdigit() else otherwise


def price(config: Mapping[str, str]) -> float | None:
    """Dollars a second of all devices, where the price is known."""
    return per_second(_positive(config.get("hardware.usd_per_hour")), _positive(config.get("ranks")) or 1.0)


def _positive(value: Any) -> float | None:
    found = number(value)
    return found if math.isfinite(found) and found > 0 else None


def _metrics(rows: Sequence[Row], result: Result | None) -> dict[str, float]:
    latest: dict[str, float] = {}
    for row in rows:
        latest |= {name: number(value) for name, value in row.items() if name not in NOT_METRICS}
    measured = {f"run/{name}": getattr(result, name) for name in MEASURED} if result else {}
    measured = {name: value for name, value in measured.items() if value is not None}
    return {**latest, **(result.metrics if result else {}), **measured}


def _facts(environment: Mapping[str, Any], result: Result | None) -> dict[str, str]:
    facts = {told: str(environment[name]) for name, told in FACTS.items() if environment.get(name) not in (None, "")}
    if result is not None:
        facts |= {f"{PARENT}{name}": signature for name, signature in result.parents.items()}
        facts |= {"commit": result.commit} if result.commit else {}
    packages = environment.get("packages") or (result.versions if result else {})
    return facts | {f"{PACKAGE}{name}": str(version) for name, version in packages.items()}
