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
    file.write_text('{"a": "So."}\n' + file.read_text())
    config = source(path=str(file), format="completion", columns={"prompt": "q.text", "completion": "a"})
    with pytest.raises(Fault, match=r"rows\.jsonl:1: q\.text: is missing"):
        load_source("mine", config, 0.0, None)


def test_a_column_that_no_row_has_is_a_fault(file: Path, source: Make) -> None:
    config = source(path=str(file), columns={"prompt": "q.txt", "completion": "a"})
    with pytest.raises(Fault, match=r"data\.sources\.mine\.columns\.prompt=q\.txt: no row of .* has this column.* q, a, lang"):
        load_source("mine", config, 0.0, None)


def test_unknown_columns_are_told_what_to_call_them(file: Path, source: Make) -> None:
    with pytest.raises(Fault, match=r"columns q, a, lang; .*'\+data\.sources\.mine\.columns=\{prompt: q, completion: a\}'"):
        load_source("mine", source(path=str(file)), 0.0, None)


def write(file: Path, *rows: dict[str, Any]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_columns_that_are_not_read_are_named(file: Path, source: Make) -> None:
    path = write(
        file, {"prompt": "Why?", "answer": "So.", "id": 1}, {"prompt": "And?", "answer": "Thus.", "label": 1, "page": 2}
    )
    assert load_source("mine", source(path=path), 0.0, None).skipped == ["not read: id, page"]


def test_a_pair_beside_other_texts_does_not_hold_its_prompt(file: Path, source: Make) -> None:
    path = write(file, {"question": "Is it far?", "chosen": "Sure, no.", "rejected": "Sure, yes."})
    with pytest.raises(Fault, match=r"question is not read; write '\+data\.sources\.mine\.columns=\{prompt: question\}'"):
        load_source("mine", source(path=path), 0.0, None)
    (mended,) = load_source("mine", source(path=path, columns={"prompt": "question"}), 0.0, None).examples
    assert (mended.turns[0].text, mended.response) == ("Is it far?", "Sure, no.")
    (meant,) = load_source("mine", source(path=path, format="transcripts"), 0.0, None).examples
    assert (meant.turns[0].text, meant.response) == ("Sure,", "no.")


def test_a_dialogue_nobody_can_follow_is_a_bad_row_but_passed_over_in_hub_sets(file: Path, source: Make, hub: Any) -> None:
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    rows = [{"messages": said}, {"messages": said[1:]}, {"messages": []}]
    with pytest.raises(Fault, match=r"2 of 3 rows .*rows\.jsonl:2: messages\[0\]: is the assistant's.*:3: messages: is empty"):
        load_source("mine", source(path=write(file, *rows)), 0.5, None)
    hub.known["theirs"] = rows
    found = load_source("mine", source(path="hub:theirs"), 0.0, None)
    assert len(found.examples) == 1
    assert found.skipped == [
        "2 dialogues passed over: hub:theirs:1: messages[0]: is the assistant's, and nobody has asked anything; "
        "hub:theirs:2: messages: is empty"
    ]
