"""Rows with their places, and errors that say what to do."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

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
    table = read("mine", str(file), None)
    assert [(row.where, row.content) for row in table.rows] == [(f"{file}:1", {"a": 1}), (f"{file}:3", {"a": "\u2028\u2028"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b'{"a": 1', "not JSON"), (b"[1]", "is a list"), (b'{"a": "\xff"}', "not UTF-8"), (b"[" * 200_000, "deeply")],
)
def test_a_bad_line_is_a_bad_row_and_no_crash(tmp_path: Path, line: bytes, reason: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}\n' + line + b"\n")
    good, bad = read("mine", str(file), None).rows
    assert good.content == {"a": 1}
    assert bad.where == f"{file}:2"
    assert isinstance(bad.content, BadRow) and reason in bad.content.reason


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    assert read("mine", str(file), None).rows[0].content == {"a": 1}


def test_the_digest_is_of_the_content_not_of_the_place_or_the_packing(tmp_path: Path) -> None:
    lines = ['{"a": 1}', '{"a": 2}']
    digests = {read("mine", str(write(tmp_path / name, *lines)), None).digest for name in ("a.jsonl", "b.jsonl", "c.jsonl.gz")}
    assert len(digests) == 1
    other = write(tmp_path / "d.jsonl", lines[0], '{"a": 3}')
    assert read("mine", str(other), 1).digest not in digests  # what lies behind the cap is content too


def test_a_folder_is_read_in_the_order_of_names_up_to_the_cap(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl.gz", '{"a": 3}')
    write(tmp_path / "a.jsonl", '{"a": 1}', '{"a": 2}')
    write(tmp_path / "notes.txt", "not data")
    assert [row.content for row in read("mine", str(tmp_path), None).rows] == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert [row.content for row in read("mine", str(tmp_path), 2).rows] == [{"a": 1}, {"a": 2}]


def _nothing(folder: Path) -> Path:
    return folder / "nowhere.jsonl"


def _wrong_suffix(folder: Path) -> Path:
    return write(folder / "rows.xml", "a,b")


def _empty(folder: Path) -> Path:
    return write(folder / "rows.jsonl", "", " ")


def _broken_gzip(folder: Path) -> Path:
    file = write(folder / "rows.jsonl.gz", *[f'{{"a": {number}}}' for number in range(1000)])
    file.write_bytes(file.read_bytes()[:-200])
    return file


def _empty_folder(folder: Path) -> Path:
    return folder


def _only_folders(folder: Path) -> Path:
    (folder / "train").mkdir()
    return folder


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (_nothing, "correct the path"),
        (_wrong_suffix, "convert it"),
        (_empty, "one JSON object a line"),
        (_broken_gzip, "mend the file"),
        (_empty_folder, "put one there, or name another folder"),
        (_only_folders, "/train, or name another folder"),
    ],
)
def test_errors_name_the_key_the_value_and_the_fix(tmp_path: Path, make: Callable[[Path], Path], fix: str) -> None:
    path = make(tmp_path)
    with pytest.raises(Fault) as caught:
        read("mine", str(path), None)
    assert f"data.sources.mine.path={path}" in str(caught.value)
    assert fix in str(caught.value)


def test_json_lines_with_numbers_that_are_none_are_still_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", json.dumps({"a": float("nan")}))
    assert isinstance(read("mine", str(file), None).rows[0].content, dict)


# other files than JSON lines


ROWS = [{"prompt": "Why?", "answer": "007, of course"}, {"prompt": "two\nlines", "answer": "NA"}]


def places(file: Path) -> list[tuple[str, object]]:
    return [(row.where.removeprefix(f"{file}:"), row.content) for row in read("mine", str(file), None).rows]


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "tsv.gz"])
def test_separated_values_stay_text_and_know_their_line(tmp_path: Path, ending: str) -> None:
    mark = "," if ending.startswith("csv") else "\t"
    lines = [f"prompt{mark}answer", f'Why?{mark}"007, of course"', f'"two\nlines"{mark}NA', f"only one{mark}{mark}", "Why?"]
    found = places(write(tmp_path / f"a.{ending}", *lines))
    assert found[:2] == [("2", ROWS[0]), ("3", ROWS[1])]
    assert [place for place, _ in found[2:]] == ["5", "6"]
    assert [str(row) for _, row in found[2:]] == [
        "row: has 3 values, not 2 as the header",
        "row: has 1 values, not 2 as the header",
    ]


def test_an_open_quote_is_a_bad_row(tmp_path: Path) -> None:
    *good, (place, bad) = places(write(tmp_path / "a.csv", "prompt,answer", "a,b", '"never closed,b'))
    assert good == [("2", {"prompt": "a", "answer": "b"})]
    assert place == "3" and isinstance(bad, BadRow)


@pytest.mark.parametrize("ending", ["json", "json.gz"])
@pytest.mark.parametrize("wrap", [list, lambda rows: {"version": 1, "data": rows}])
def test_json_lists_alone_or_inside_of_an_object(tmp_path: Path, ending: str, wrap: Callable[[list[object]], object]) -> None:
    found = places(write(tmp_path / f"a.{ending}", json.dumps(wrap([*ROWS, "no object"]), indent=1)))
    assert found[:2] == [("row 1", ROWS[0]), ("row 2", ROWS[1])]
    assert found[2][0] == "row 3" and "is a str" in str(found[2][1])


def test_json_lines_called_json_are_read_as_lines(tmp_path: Path) -> None:
    assert places(write(tmp_path / "a.json", *map(json.dumps, ROWS))) == [("1", ROWS[0]), ("2", ROWS[1])]
    assert places(write(tmp_path / "a.ndjson.gz", *map(json.dumps, ROWS))) == [("1", ROWS[0]), ("2", ROWS[1])]
    assert places(write(tmp_path / "b.json", json.dumps(ROWS[0]))) == [("row 1", ROWS[0])]


def test_parquet_keeps_nested_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = [{"messages": [{"role": "user", "content": "Why?"}]}, {"messages": []}]
    parquet.write_table(__import__("pyarrow").Table.from_pylist(table), tmp_path / "a.parquet")
    assert places(tmp_path / "a.parquet") == [("row 1", table[0]), ("row 2", table[1])]


@pytest.mark.parametrize("ending", ["txt", "txt.gz"])
def test_blank_lines_part_the_documents_of_plain_text(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"a.{ending}", "", "one", "two", "", " ", "three")
    assert places(file) == [("2", {"text": "one\ntwo\n"}), ("6", {"text": "three\n"})]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.parquet", b"no parquet", r"cannot be read \(.*arquet"),
        ("a.json", b"3", "neither a list of objects"),
        ("a.txt", b"good\n\n\xff\n", "line 3 is not UTF-8"),
        ("a.csv", b"a,b\n\xff,1\n", "line 2 is not UTF-8"),
        ("a.csv", b"a;b\n1;2\n", "its header holds ';' and no ','"),
        ("a.tsv", b"a,b\n1,2\n", r"its header holds ',' and no '\\t'"),
    ],
)
def test_files_that_are_not_what_their_name_says(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Fault, match=reason):
        read("mine", str(tmp_path / name), None)


def test_a_pattern_names_several_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("train-1.jsonl", "train-0.jsonl", "test-0.jsonl"):
        write(tmp_path / name, json.dumps({"a": name}))
    rows = read("mine", str(tmp_path / "train-*.jsonl"), None).rows
    assert [row.content for row in rows] == [{"a": "train-0.jsonl"}, {"a": "train-1.jsonl"}]
