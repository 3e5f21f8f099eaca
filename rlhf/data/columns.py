"""Columns by the names their format wants, and rows chosen by what stands in a column."""

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
