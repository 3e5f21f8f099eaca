"""The local record: rows that are on the disk, and a resumed run that goes on behind its checkpoint."""

import json
import os
from pathlib import Path

import pytest

from rlhf.tracking.record import Record


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, count: int) -> None:
    record = Record(path, 0)
    for round_ in range(count):
        record.append({"round": round_, "loss": round_ / 4})
    record.close()


def test_rows_are_there_as_soon_as_they_are_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "metrics.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.read_text().count("\n")))
    record = Record(path, 0)
    record.append({"round": 1, "loss": 0.5})
    record.append({"round": 2, "loss": 0.25})
    assert rows(path) == [{"round": 1, "loss": 0.5}, {"round": 2, "loss": 0.25}]  # before it is closed
    assert synced == [1, 2]
    assert record.rows == 2
    record.close()


def test_numbers_that_are_not_finite_are_strings_and_text_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    record = Record(path, 0)
    record.append({"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 1e308, "text": "Zoë\nsaid \u2028 中"})
    record.close()
    assert path.read_bytes().count(b"\n") == 1
    assert "Zoë" in path.read_text()
    assert json.loads(path.read_text()) == {"a": "nan", "b": "inf", "c": "-inf", "d": 1e308, "text": "Zoë\nsaid \u2028 中"}


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 3)
    assert Record(path, 0).rows == 0
    assert path.read_text() == ""


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 5)
    record = Record(path, 3)
    assert record.rows == 3
    record.append({"round": "again"})
    record.close()
    assert [row["round"] for row in rows(path)] == [0, 1, 2, "again"]
    assert record.rows == 4


@pytest.mark.parametrize("keep", [3, 4, 10])
def test_a_torn_last_row_is_dropped_whatever_the_checkpoint_says(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 3)
    with path.open("a") as file:
        file.write('{"round": 3, "lo')
    record = Record(path, keep)
    assert record.rows == 3
    record.append({"round": 3})
    record.close()
    assert [row["round"] for row in rows(path)] == [0, 1, 2, 3]


def test_the_rows_that_stay_are_never_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 3)
    before = path.stat().st_ino
    Record(path, 2).close()
    assert path.stat().st_ino == before
    assert [row["round"] for row in rows(path)] == [0, 1]
