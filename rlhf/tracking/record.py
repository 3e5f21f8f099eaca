"""The local record of a run: ``metrics.jsonl``, ``samples.jsonl`` and others, synced row by row."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

KEPT = "kept.jsonl"
"""File in the folder of a run, of stages that make text for others to learn from."""


class Record:
    """Rows of JSON in one file, numbered from 0; a resumed run first takes back what came after its checkpoint."""

    def __init__(self, path: Path, keep: int) -> None:
        """Open ``path`` with its first ``keep`` rows, dropping the rest (a torn last row among them)."""
        self._path = path
        rows = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        lines = [row for row in rows if row.endswith(b"\n")][:keep]
        self._file = path.open("a", encoding="utf-8")
        self._file.truncate(sum(map(len, lines)))  # in place: a crash here cannot lose the rows that stay
        self.rows = len(lines)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row and see it to the disk. Numbers that are not finite are written as strings."""
        self.extend([row])

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """The same for several, seen to the disk at once."""
        for row in rows:
            self._file.write(json.dumps({key: _clean(row[key]) for key in row}, ensure_ascii=False, allow_nan=False) + "\n")
            self.rows += 1
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _clean(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value
