"""An update that was computed again, on a terminal and as JSON."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlhf import provenance
from rlhf.replay.again import Outcome
from rlhf.replay.capsule import About
from rlhf.report.paper import short

PLAIN_WIDTH = 160
FEW = 6
"""Names that are said before `and N more`."""
FIRST = (
    *("loss/policy_avg", "loss/value_avg", "loss/ptx_avg", "policy/clipfrac_avg", "policy/approxkl_avg", "policy/entropy_avg"),
    *("val/ratio", "val/ratio_max", "val/clipfrac_avg", "val/explained_variance", "grad_norm/policy", "grad_norm/critic"),
    *("learning_rate/policy", "learning_rate/critic", "moved/policy", "moved/critic", "objective/scores", "objective/kl"),
    *("objective/rlhf_reward", "signs/advantage_sd"),
)
"""Metrics that are always shown, in this order; the others where they changed."""


@dataclass(frozen=True)
class Shown:
    """A capsule and what came of it."""

    folder: Path
    about: About
    changes: list[str]
    again: Outcome
    """Under the settings of the record."""
    changed: Outcome | None
    """Under ``changes``; None: there are none."""
    plain: bool
    """Whether it was recorded with plain torch on a CPU, in a format that is computed in here."""

    @property
    def fails(self) -> bool:
        """Whether ``again`` is not the record to the bit, though it was made by the same code of torch on the same machine."""
        same = self.about.machine == provenance.device() and self.about.versions.get("torch") == _version("torch")
        return self.plain and same and bool(self.unlike)

    @property
    def unlike(self) -> list[str]:
        """What ``again`` does not have as recorded."""
        return self.again.unlike(self.about)

    def content(self) -> dict[str, Any]:
        """All of it, for programs; a number that is not finite is null."""
        return {
            "capsule": str(self.folder),
            "stage": self.about.stage,
            "update": self.about.update,
            "changes": self.changes,
            "equal": not self.unlike,
            "unlike": self.unlike,
            "recorded": _finite(self.about.metrics),
            "again": _finite(self.again.metrics),
            "changed": None if self.changed is None else _finite(self.changed.metrics),
        }

    def show(self) -> None:
        """Print it."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=PLAIN_WIDTH)
        console.print(Text(f"{self.folder}: update {self.about.update} of stage={self.about.stage}"))
        for line in self._agreement():
            console.print(Text(line))
        console.print(self._table())

    def _agreement(self) -> list[str]:
        """How the record and the same settings here agree."""
        if not self.unlike:
            return [
                f"as recorded, bit for bit: {len(self.about.metrics)} numbers and the weights of {_and(self.about.weights)}"
            ]
        others = [f"{name} {old}, here {_version(name)}" for name, old in self.about.versions.items() if old != _version(name)]
        others += [] if self.plain else ["ranks or another number format"]
        others += [] if self.about.machine == provenance.device() else [f"{self.about.machine}, here {provenance.device()}"]
        why = f" Recorded with {'; '.join(others)}." if others else ""
        if self.fails:
            return [f"not as recorded, though the settings are: {_and(self.unlike)}.{why}"]
        return [f"not to the bit as recorded; farthest are {_and(self._farthest())}.{why}"]

    def _farthest(self) -> list[str]:
        """The metrics that are farthest from the record, in parts of 0.1 or of what they are if that is more."""
        ours, theirs = self.again.metrics, self.about.metrics
        off = {name: abs(ours[name] - theirs[name]) / max(0.1, abs(theirs[name])) for name in ours if name in theirs}
        names = sorted(off, key=lambda name: -off[name])[:3]
        return [f"{name} off by {off[name]:.0e}" for name in names]

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE)
        columns = {"recorded": self.about.metrics}
        if self.unlike:
            columns["again"] = self.again.metrics
        if self.changed is not None:
            columns[" ".join(self.changes)] = self.changed.metrics
        for name in ("", *columns, *([] if self.changed is None else ["change"])):
            table.add_column(Text(name), overflow="fold")
        for name in self._names():
            cells = [_told(metrics.get(name)) for metrics in columns.values()]
            table.add_row(*map(Text, (name, *cells, *([] if self.changed is None else [self._change(name)]))))
        return table

    def _names(self) -> list[str]:
        """Metrics worth a row."""
        ours = self.again.metrics
        theirs = ours if self.changed is None else self.changed.metrics
        every = dict.fromkeys([*FIRST, *ours, *theirs])
        changed = {name for name in every if repr(ours.get(name)) != repr(theirs.get(name))}
        return [name for name in every if (name in FIRST and name in {*ours, *theirs}) or name in changed]

    def _change(self, name: str) -> str:
        """From the recorded settings here to the changed ones here, so that no rounding of another device is in it."""
        assert self.changed is not None
        old, new = self.again.metrics.get(name), self.changed.metrics.get(name)
        if old is None or new is None:
            return ""
        return "=" if repr(old) == repr(new) else f"{new - old:+.4g}"


def _told(value: float | None) -> str:
    return "–" if value is None else short(value)


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if abs(value) < float("inf") else None for name, value in metrics.items()}


def _and(names: Any) -> str:
    listed = list(names)
    more = f", and {len(listed) - FEW} more" if len(listed) > FEW else ""
    return ", ".join(listed[:FEW]) + more


def _version(package: str) -> str:
    return provenance.versions().get(package, "none")
