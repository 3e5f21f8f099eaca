"""Rows with their places, and errors that say what to do."""

import gzip
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.data.reader import read
from rlhf.data.records import BadRow
from rlhf.fault import Fault


def write(file: Path, *lines: str) -> Path:
    text = "".join(f"{line}\n" for line in lines)
    if file.suffix == ".gz":
        with gzip.open(file, "wt", encoding="utf-8") as stream:
            stream.write(text)
    else:
        file.write_text(text, encoding="utf-8")
    return file


def test_rows_carry_file_and_line_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"a": 1}', "", '{"a": "\\u2028\u2028"}')
    table = read("mine", str(file), None, None)
    assert [(row.where, row.content) for row in table.rows] == [(f"{file}:1", {"a": 1}), (f"{file}:3", {"a": "\u2028\u2028"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b'{"a": 1', "not JSON"), (b"[1]", "is a list"), (b'{"a": "\xff"}', "not UTF-8"), (b"[" * 200_000, "deeply")],
)
def test_a_bad_line_is_a_bad_row_and_no_crash(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}\n' + line + b"\n")
    good, bad = read("mine", str(file), None, None).rows
    assert good.content == {"a": 1}
    assert bad.where == f"{file}:2"
    assert isinstance(bad.content, BadRow) and reason in bad.content.reason


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read("mine", str(file), None, None).rows[0].content == {"a": 1}


def test_the_digest_is_of_the_content_not_of_the_place_or_the_packing(tmp_path: Path) -> None:
    lines = ['{"a": 1}', '{"a": 2}']
    digests = {
        read("mine", str(write(tmp_path / name, *lines)), None, None).digest for name in ("a.jsonl", "b.jsonl", "c.jsonl.gz")
    }
    assert len(digests) == 1
    other = write(tmp_path / "d.jsonl", lines[0], '{"a": 3}')
    assert read("mine", str(other), 1, None).digest not in digests  # what lies behind the cap is content too


def test_a_folder_is_read_in_the_order_of_names_up_to_the_cap(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl.gz", '{"a": 3}')
    write(tmp_path / "a.jsonl", '{"a": 1}', '{"a": 2}')
    write(tmp_path / "notes.txt", "not data")
    assert [row.content for row in read("mine", str(tmp_path), None, None).rows] == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [row.content for row in read("mine", str(tmp_path), 2, None).rows] == [{"a": 1}, {"a": 2}]


def _nothing(folder: Path) -> Path:
    return folder / "nowhere.jsonl"


def _wrong_suffix(folder: Path) -> Path:
    return write(folder / "rows.csv", "a,b")


def _empty(folder: Path) -> Path:
    return write(folder / "rows.jsonl", "", " ")


def _broken_gzip(folder: Path) -> Path:
    file = write(folder / "rows.jsonl.gz", *[f'{{"a": {number}}}' for number in range(1000)])
    file.write_bytes(file.read_bytes()[:-200])
    return file


def _empty_folder(folder: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (_nothing, "correct the path"),
        (_wrong_suffix, "convert it"),
        (_empty, "one JSON object a line"),
        (_broken_gzip, "mend the file"),
        (_empty_folder, "name another folder"),
    ],
)
def test_errors_name_the_key_the_value_and_the_fix(tmp_path: Path, make: Callable[[Path], Path], fix: str) -> None:
    path = make(tmp_path)
    with pytest.raises(Fault) as caught:
        read("mine", str(path), None, None)
    assert f"data.sources.mine.path={path}" in str(caught.value)
    assert fix in str(caught.value)


class FakeDataset(list[dict[str, Any]]):
    _fingerprint = "f1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A package `datasets` that knows one data set and remembers how it was asked."""
    asked: dict[str, Any] = {}

    def load_dataset(identifier: str, **options: Any) -> FakeDataset:
        asked.update(options, identifier=identifier)
        if identifier != "someone/pairs":
            raise ConnectionError("cannot reach the hub\nand more")
        return FakeDataset([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}])

    fake = types.ModuleType("datasets")
    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    yield asked


def test_hub_rows_revision_cap_and_cache(hub: dict[str, Any]) -> None:
    table = read("mine", "hub:someone/pairs@v2", 2, "/cache")
    assert hub == {"identifier": "someone/pairs", "revision": "v2", "split": "train", "cache_dir": "/cache"}
    assert [(row.where, row.content) for row in table.rows] == [
        ("hub:someone/pairs:0", {"prompt": "a"}),
        ("hub:someone/pairs:1", {"prompt": "b"}),
    ]


def test_the_hub_digest_holds_id_revision_and_fingerprint(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [
        read("mine", path, None, None).digest for path in ("hub:someone/pairs", "hub:someone/pairs", "hub:someone/pairs@v2")
    ]
    monkeypatch.setattr(FakeDataset, "_fingerprint", "f2")
    digests.append(read("mine", "hub:someone/pairs", None, None).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert hub["revision"] is None


def test_an_absent_hub_data_set_is_an_error_for_the_user(hub: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"data\.sources\.mine\.path=hub:no/such.*`no/such`.*cannot reach the hub\).*check the id"
    ) as caught:
        read("mine", "hub:no/such", None, None)
    assert "and more" not in str(caught.value)
    assert hub["identifier"] == "no/such"


def test_without_the_package_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Fault, match=r"data\.sources\.mine\.path=hub:a/b: needs the package `datasets`"):
        read("mine", "hub:a/b", None, None)


def test_json_lines_with_numbers_that_are_none_are_still_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", json.dumps({"a": float("nan")}))
    assert isinstance(read("mine", str(file), None, None).rows[0].content, dict)
