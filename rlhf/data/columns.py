"""Columns by the names their format wants, rows chosen by what stands in a column, and columns that nobody reads."""

from collections.abc import Collection, Mapping
from typing import Any

from rlhf.data.reader import Row
from rlhf.data.records import BadRow


def renamed(row: Row | BadRow, columns: Mapping[str, str]) -> Row | BadRow:
    """``row`` with each of our names (the keys) set to what stands under theirs; one that is not there stays away.

    A dot leads into nested columns: `question.full_text`.
    """
    if isinstance(row, BadRow) or not columns:
        return row
    found = {ours: _at(row, theirs) for ours, theirs in columns.items()}
    others = {column: value for column, value in row.items() if column not in columns}
    return others | {ours: value for ours, value in found.items() if value is not _ABSENT}


def has(row: Row | BadRow, column: str) -> bool:
    """Whether there is such a column, or a nested one where the name has a dot."""
    return not isinstance(row, BadRow) and _at(row, column) is not _ABSENT


class Watched(Row):
    """A row that adds to a set which of its columns were read."""

    def __init__(self, row: Row, read: set[str]) -> None:
        super().__init__(row)
        self._read = read

    def __getitem__(self, column: str) -> Any:
        self._read.add(column)
        return super().__getitem__(column)

    def get(self, column: str, default: Any = None) -> Any:
        """As of any row."""
        self._read.add(column)
        return super().get(column, default)


def is_kept(row: Row | BadRow, keep: Mapping[str, Collection[str]]) -> bool:
    """Whether every column named in ``keep`` has one of its values; a row that cannot be read is kept, to be counted."""
    return isinstance(row, BadRow) or all(str(_at(row, column)) in values for column, values in keep.items())


_ABSENT = object()


def _at(row: Row, path: str) -> Any:
    if path in row:
        return row[path]
    first, dot, rest = path.partition(".")
    inner = row.get(first, _ABSENT)
    return _at(inner, rest) if dot and isinstance(inner, dict) else _ABSENT
