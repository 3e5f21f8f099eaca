"""The rows on the page about data are rows."""

import json
import re
from pathlib import Path

import pytest

from rlhf.config import Format
from rlhf.data.formats import COLUMNS, detect
from rlhf.data.sources import READERS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
ROWS = {
    name: [json.loads(line) for line in block.splitlines()]
    for name, block in re.findall(r"```jsonl (\w+)\n(.*?)```", PAGE, re.S)
}


def test_every_format_that_is_recognised_is_shown() -> None:
    assert {Format[name] for name in ROWS} == set(COLUMNS)


@pytest.mark.parametrize("name", ROWS)
def test_two_rows_that_are_recognised_and_read(name: str) -> None:
    assert len(ROWS[name]) == 2
    for row in ROWS[name]:
        assert detect(row) is Format[name]
        assert READERS[Format[name]](row, "page")
