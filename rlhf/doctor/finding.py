"""What a rule finds, and the record it looks at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlhf.report.curves import number
from rlhf.report.folder import Row, RunFolder, rows

FULL = "fp32"
"""The number format in which two ways to work out one number agree to rounding."""
Severity = Enum("Severity", ["error", "warning"])
"""``error``: what the run computed is not what it was to compute, or its outcome is the opposite of what it looks like.
``warning``: a figure outside of its healthy range."""


@dataclass(frozen=True)
class Finding:
    """One diagnosis."""

    name: str
    """Short and stable, for searching: `over-optimised`."""
    severity: Severity
    evidence: str
    """The figures it rests on."""
    meaning: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}. {self.meaning} {self.fix}"


@dataclass(frozen=True)
class History:
    """The metrics of a run over its rounds."""

    stage: str
    rows: Sequence[Row]
    config: DictConfig
    """Empty where it cannot be read."""
    facts: Row = field(default_factory=dict)
    """What ``environment.json`` says, and as `tokens` the special tokens of the artifact."""

    @classmethod
    def of(cls, run: RunFolder) -> "History":
        """The record of a run."""
        return cls.within(run.path, run.stage, run.metrics)

    @classmethod
    def within(cls, folder: Path, stage: str, metrics: Sequence[Row]) -> "History":
        """``metrics`` of a run in ``folder``, with what else is known of it there."""
        path = folder / "config.yaml"
        loaded = OmegaConf.load(path) if path.is_file() else OmegaConf.create({})
        config = loaded if isinstance(loaded, DictConfig) else OmegaConf.create({})
        facts = next(rows(folder / "environment.json"), {})
        tokens = next(rows(folder / "artifact" / "tokenizer_config.json"), {})
        return cls(stage, metrics, config, {**facts, "tokens": tokens})

    def all(self, metric: str, kind: str | None = None) -> list[tuple[int, float]]:
        """(round, value) of each finite value of a metric, of rows of one kind or all."""
        found = [
            (int(row["round"]), number(row[metric])) for row in self.rows if metric in row and kind in (None, row.get("kind"))
        ]
        return [(at, value) for at, value in found if math.isfinite(value)]

    def first(self, metric: str, kind: str | None = None) -> float | None:
        """The first value, if there is any."""
        values = self.all(metric, kind)
        return values[0][1] if values else None

    def last(self, metric: str, kind: str | None = None) -> float | None:
        """The last value, if there is any."""
        values = self.all(metric, kind)
        return values[-1][1] if values else None

    def start(self, metric: str) -> float | None:
        """Its value before the first round, where it was evaluated then."""
        values = self.all(metric, "eval")
        return values[0][1] if values and values[0][0] == 0 else None

    def late(self, metric: str, share: float = 0.25) -> float | None:
        """Mean over the last ``share`` of the rows that have it, at least one."""
        values = [value for _, value in self.all(metric)]
        kept = values[-max(1, round(share * len(values))) :]
        return sum(kept) / len(kept) if kept else None

    def setting(self, key: str) -> Any:
        """A value of the configuration; None where there is none."""
        return OmegaConf.select(self.config, key)
