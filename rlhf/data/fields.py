"""Single values out of a row, checked: what is not as it should be raises ``BadRow`` with its field."""

import math
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


def rating_of(row: Row) -> float | None:
    """1 where `label` is true or 1, 0 where it is false or 0, also as text (a CSV file holds nothing else); None: no label."""
    if "label" not in row:
        return None
    label = row["label"]
    told = label.strip().lower() if isinstance(label, str) else label
    known = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}  # True is also 1, and False 0
    if not isinstance(told, bool | int | float | str) or told not in known:
        raise BadRow("label", not_a(label, "true or false, 1 or 0"))
    return known[told]


def margin_of(row: Row) -> float | None:
    """The number under `margin`, also as text; None: there is none."""
    margin = row.get("margin")
    if margin is None:
        return None
    try:
        found = float(margin) if isinstance(margin, int | float | str) and not isinstance(margin, bool) else -1.0
    except (ValueError, OverflowError):
        found = -1.0
    if not (math.isfinite(found) and found >= 0):
        raise BadRow("margin", not_a(margin, "a finite number of at least 0"))
    return found


def system_of(row: Row) -> str:
    """What the column `system` says; nothing where there is none."""
    return "" if row.get("system") is None else text_of(row, "system", may_be_empty=True)


def object_of(value: Any, field: str) -> Row:
    """``value`` if it is an object with named columns."""
    if not isinstance(value, dict):
        raise BadRow(field, not_a(value, "an object"))
    return value


def not_a(value: Any, wanted: str) -> str:
    """How a fault shows a value that is not what is ``wanted``."""
    shown = repr(value)
    return f"is {shown[:40] + '...' if len(shown) > 40 else shown}, not {wanted}"
