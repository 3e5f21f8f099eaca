"""Single values out of a row, checked: what is not as it should be raises ``BadRow`` with its field."""

import math
from dataclasses import replace
from typing import Any

from rlhf.data.reader import Row
from rlhf.data.records import BadRow, Example


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


def rated(row: Row, example: Example) -> Example:
    """``example`` with what people found of its answer, by the row's `label` or `rating`.

    `label`: true or 1 is a good answer, rated 1; false or 0 a bad one, rated 0 and no demonstration. `rating`: a number on any
    scale, which says nothing of whether to imitate the answer. Both also as text: a CSV file holds nothing else.
    """
    if "label" not in row:
        rating = _number(row, "rating")
        return example if rating is None else replace(example, rating=rating, demonstrates=False)
    label = row["label"]
    told = label.strip().lower() if isinstance(label, str) else label
    known = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}  # True is also 1, and False 0
    if not isinstance(told, bool | int | float | str) or told not in known:
        raise BadRow("label", not_a(label, "true or false, 1 or 0; a number on another scale goes into a column `rating`"))
    return replace(example, rating=known[told], demonstrates=known[told] > 0)


def margin_of(row: Row) -> float | None:
    """The number under `margin`, also as text; None: there is none."""
    return _number(row, "margin", 0.0, "a finite number of at least 0")


def _number(row: Row, column: str, least: float = -math.inf, wanted: str = "a finite number") -> float | None:
    value = row.get(column)
    if value is None:
        return None
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        found = math.nan
    if not (math.isfinite(found) and found >= least):
        raise BadRow(column, not_a(value, wanted))
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
