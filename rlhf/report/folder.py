"""Reads what a run left behind; whatever is missing or torn is left out, so that a report can be made of any end."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.fault import Fault
from rlhf.result import Result

Row = dict[str, Any]


@dataclass(frozen=True)
class RunFolder:
    """The records of one run."""

    path: Path
    result: Result | None
    """None for a run that is still going on, or was killed."""
    overrides: list[str]
    """What the person typed and the companions that were filled in; empty where nobody noted it."""
    metrics: list[Row]
    """Rows of ``metrics.jsonl``."""
    samples: list[Row]
    scores: dict[int, dict[str, list[float]]]
    """Scores of the fixed evaluation prompts by round and name."""
    environment: Row = field(default_factory=dict)
    crash: str = ""

    @property
    def stage(self) -> str:
        """From the result, else from the folder's name."""
        return self.result.stage if self.result else self.path.name.split("-")[0]


def read(path: Path) -> RunFolder:
    """The records in ``path``.

    Raises:
        Fault: it is not the folder of a run.
    """
    if not (path / "config.yaml").is_file():
        raise Fault(f"{path}: is not the folder of a run (it has no config.yaml); name one of outputs/runs")
    overrides, crash, environment = path / "overrides.txt", path / "crash.txt", path / "environment.json"
    scores: dict[int, dict[str, list[float]]] = {}
    for row in rows(path / "scores.jsonl"):  # after a resume a round may come again, with the same scores
        scores[row.pop("round")] = row
    return RunFolder(
        path=path,
        result=Result.read(path / "result.json"),
        overrides=overrides.read_text().splitlines() if overrides.is_file() else [],
        metrics=list(rows(path / "metrics.jsonl")),
        samples=list(rows(path / "samples.jsonl")),
        scores=scores,
        environment=next(rows(environment), {}),
        crash=crash.read_text(errors="replace") if crash.is_file() else "",
    )


def last_samples(samples: Sequence[Row]) -> list[Row]:
    """Those of the weights a run ended with: the kept ones, evaluated before, or else those of the last evaluation."""
    end = max((row["round"] for row in samples), default=0)
    last = [row for row in samples if row["round"] == end]
    return [row for row in last if "kept" in row] or last


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file of JSON rows, or the one object of a JSON file."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    for line in [text] if path.suffix == ".json" else text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # torn by a kill
            continue
        if isinstance(row, dict):
            yield row
