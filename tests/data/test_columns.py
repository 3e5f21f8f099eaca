"""Columns under other names, rows chosen by value."""

from rlhf.data.columns import is_kept, renamed
from rlhf.data.records import BadRow

ROW = {"question": {"full_text": "Why?", "id": 3}, "answer": "So.", "a.b": "dotted"}
BAD = BadRow("row", "is not JSON")


def test_ours_get_what_stands_under_theirs_and_the_others_stay() -> None:
    assert renamed(ROW, {"prompt": "question.full_text", "completion": "answer"}) == {
        **ROW,
        "prompt": "Why?",
        "completion": "So.",
    }
    assert renamed(ROW, {}) is ROW


def test_a_name_that_is_taken_changes_its_meaning() -> None:
    assert renamed({"prompt": "a", "text": "b"}, {"prompt": "text", "text": "prompt"}) == {"prompt": "b", "text": "a"}


def test_a_column_whose_name_has_a_dot_comes_before_a_path() -> None:
    assert renamed(ROW, {"x": "a.b"}) == {**ROW, "x": "dotted"}


def test_what_is_not_there_stays_away_so_that_its_reader_says_so() -> None:
    assert "x" not in renamed(ROW, {"x": "question.nope.more"})  # type: ignore[operator]
    assert "answer" not in renamed(ROW, {"answer": "nope"})  # type: ignore[operator]
    assert renamed(BAD, {"x": "answer"}) is BAD


def test_rows_are_kept_by_every_column_named() -> None:
    assert is_kept(ROW, {}) and is_kept(BAD, {"answer": ["No."]})
    assert is_kept(ROW, {"answer": ["So.", "No."], "question.id": ["3"]})
    assert not is_kept(ROW, {"answer": ["So."], "question.id": ["4"]})
    assert not is_kept(ROW, {"nope": ["None"]})
