"""What a source says of its rows: those left out, and those that cannot be read, by the names they have in the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.config import SourceConfig
from rlhf.data.sources import load_source
from rlhf.fault import Fault

Make = Callable[..., SourceConfig]
ROWS: list[dict[str, Any]] = [
    {"q": {"text": "Why?"}, "a": "So.", "lang": "en"},
    {"q": {"text": "Warum?"}, "a": "Darum.", "lang": "de"},
    {"q": {"text": "Pourquoi?"}, "a": "Parce que.", "lang": "fr"},
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "rows.jsonl"
    made.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return made


def test_columns_and_values_choose_what_is_read(file: Path, source: Make) -> None:
    config = source(path=str(file), columns={"prompt": "q.text", "completion": "a"}, keep={"lang": ["de", "fr"]})
    found = load_source("mine", config, 0.0, None)
    assert [(example.turns[0].text, example.response) for example in found.examples] == [
        ("Warum?", "Darum."),
        ("Pourquoi?", "Parce que."),
    ]
    assert found.reading == f"2 rows of {file} read as completion (columns prompt, completion)"
    assert found.skipped == ["1 left out by data.sources.mine.keep"]


def test_values_that_no_row_has_are_a_fault(file: Path, source: Make) -> None:
    with pytest.raises(Fault, match=r"data\.sources\.mine\.keep=.*'xx'.*: no row of .* has these values"):
        load_source("mine", source(path=str(file), keep={"lang": ["xx"]}), 0.0, None)


def test_a_fault_names_the_column_as_it_stands_in_the_file(file: Path, source: Make) -> None:
    config = source(path=str(file), format="completion", columns={"prompt": "q.txt", "completion": "a"})
    with pytest.raises(Fault, match=r"rows\.jsonl:1: q\.txt: is missing"):
        load_source("mine", config, 0.0, None)
