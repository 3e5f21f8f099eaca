"""How a run ends: the typed result that ``result.json`` holds, and the exit code it stands for."""

import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

Status = Enum("Status", ["finished", "failed", "infeasible", "stopped", "pruned", "lost"])

EXIT_CODES = {Status.finished: 0, Status.failed: 1, Status.infeasible: 3, Status.stopped: 75, Status.pruned: 0, Status.lost: 1}

_ONLINE = ("reward/gain", "reward/gold_gain", "reward/gold_correlation", "eval/kl", "response/repetition")
HEADLINES = {
    "pretrain": ("eval/perplexity",),
    "sft": ("eval/perplexity", "response/repetition"),
    "rm": ("eval/accuracy", "baseline/bayes", "baseline/longer_wins", "baseline/bag_of_words", "eval/rating_mse"),
    "dpo": ("eval/accuracy", "baseline/bayes", "reward/gain", "reward/gold_gain", "eval/kl", "response/repetition"),
    "kto": ("eval/auc", "eval/accuracy", "reward/gain", "reward/gold_gain", "eval/kl", "response/repetition"),
    "ppo": _ONLINE,
    "rloo": _ONLINE,
    "grpo": _ONLINE,
    "best_of_n": (*_ONLINE, "best_of/gain", "best_of/gold_gain", "best_of/kl_bound"),
}
"""Metrics of the closing table and the head of the report, by stage; one that has an interval is shown with it."""

COSTS = ("mem/peak_gib", "time/seconds", "cost/usd")
"""What every result has beside its metrics, as a study names it; less is better."""


@dataclass(frozen=True)
class Objective:
    """A metric of ``result.json`` and which way is better."""

    metric: str
    direction: Literal["minimize", "maximize"]


OBJECTIVES = {
    "pretrain": Objective("eval/loss", "minimize"),
    "sft": Objective("eval/loss", "minimize"),
    "rm": Objective("eval/accuracy", "maximize"),
    "ppo": Objective("reward/gain", "maximize"),
    "dpo": Objective("eval/accuracy", "maximize"),
    "kto": Objective("eval/auc", "maximize"),
    "rloo": Objective("reward/gain", "maximize"),
    "grpo": Objective("reward/gain", "maximize"),
    "best_of_n": Objective("reward/gain", "maximize"),
}
"""What a study of each stage optimises, and what `keep_best` and `early_stop` follow unless told otherwise (``followed``)."""


@dataclass
class Result:
    """The end of one run.

    ``reason`` is empty for a plain finish, else one of `early_stop nan crash timeout rank_lost fault oom plan
    preempted budget interrupted`. ``seconds`` is the run's own training and evaluation time, over all its sessions, without its
    parents'. ``cost_usd`` is null when no price is known.
    """

    status: Status
    stage: str
    model: str
    run_signature: str
    result_signature: str
    reason: str = ""
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cost_usd: float | None = None
    peak_memory_gib: float | None = None
    folder: str = ""
    artifact: str | None = None
    parents: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Exit code of a process that ran only this."""
        return EXIT_CODES[self.status]

    def took(self) -> dict[str, float]:
        """Its ``COSTS``, without what is not known."""
        took = zip(COSTS, (self.peak_memory_gib, self.seconds, self.cost_usd), strict=True)
        return {name: value for name, value in took if value is not None}

    def to_json(self) -> str:
        """One JSON object, statuses by name; numbers that are not finite become strings, so that any reader can load it."""
        content = {**asdict(self), "status": self.status.name}
        content["metrics"] = {name: _finite(value) for name, value in self.metrics.items()}
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> "Result":
        """Read a ``result.json``.

        Raises:
            FileNotFoundError: there is none.
        """
        return cls.parse(json.loads(path.read_text()))

    @classmethod
    def read(cls, path: Path) -> "Result | None":
        """As ``load``, but None if there is none that can be read."""
        try:
            return cls.load(path)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @classmethod
    def parse(cls, content: dict[str, Any]) -> "Result":
        """The result that ``to_json`` wrote."""
        metrics = {name: float(value) for name, value in content["metrics"].items()}
        return cls(**{**content, "status": Status[content["status"]], "metrics": metrics})


def _finite(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)
