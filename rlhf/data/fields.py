"""Single values out of a row, checked: what is not as it should be raises ``BadRow`` with its field."""

from typing import Any

from rlhf.data.reader import Row
from rlhf.data.records import BadRow


def text_of(row: Row, column: str, within: str = "", may_be_empty: bool = False) -> str:
    """The text in a column, stripped at both ends; ``within`` stands before the column's name in a fault."""
    field = within + column
    if column not in row:
        raise BadRow(field, "is missing")
    value = row[column]
    if not isinstance(value, str):
        raise BadRow(field, not_a(value, "text"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(field, "holds half a surrogate pair, which no tokenizer can read") from None
    value = value.strip()
    if not value and not may_be_empty:
        raise BadRow(field, "is empty")
    return value


def verdict_of(label: Any) -> float | None:
    """1 for true and 0 for false, also as text (a CSV file holds nothing else); None: no verdict."""
    known = {"true": 1.0, "false": 0.0}
    return known.get(str(label).lower()) if isinstance(label, bool | str) else None


def object_of(value: Any, field: str) -> Row:
    """``value`` if it is an object with named columns."""
    if not isinstance(value, dict):
        raise BadRow(field, not_a(value, "an object"))
    return value


def not_a(value: Any, wanted: str) -> str:
    """How a fault shows a value that is not what is ``wanted``."""
    shown = repr(value)
    return f"is {shown[:40] + '...' if len(shown) > 40 else shown}, not {wanted}"
