"""Shapes of public data sets on rows written by hand: what exactly comes of them, and what is refused."""

from typing import Any

import pytest

from rlhf.config import Format
from rlhf.data.records import BadRow, Example, Turn
from rlhf.data.upstream import NO_ANSWER, READERS

WHY = (Turn("user", "Why?"),)


def read(kind: str, **row: Any) -> list[Example]:
    return READERS[Format[kind]](row, "mine")


def pairs(kind: str, **row: Any) -> list[tuple[str | None, str | None]]:
    return [(example.response, example.rejected) for example in read(kind, **row)]


def demonstration(kind: str, **row: Any) -> tuple[str, str | None]:
    """The only turn of the prompt and the answer to it."""
    (example,) = read(kind, **row)
    (turn,) = example.turns
    assert turn.role == "user" and example.rejected is None
    return turn.text, example.response


@pytest.mark.parametrize(("first", "second", "expected"), [(2, 1, [("a", "b")]), (-0.5, 0.5, [("b", "a")]), (1, 1, [])])
def test_the_higher_score_wins_and_a_tie_is_no_pair(first: float, second: float, expected: list[tuple[str, str]]) -> None:
    assert pairs("scored", prompt="Why?", answer_0="a", answer_1="b", score_0=first, score_1=second) == expected
    found = read("scored", prompt="Why?", answer_0="a", answer_1="b", score_0=first, score_1=second)
    assert [each.places for each in found] == [(0, 1) if better == "a" else (1, 0) for better, _ in expected]


def test_an_answer_that_is_empty_is_no_comparison() -> None:
    assert pairs("scored", prompt="Why?", answer_0="a", answer_1=" ", score_0=1, score_1=0) == []


def test_citation_marks_are_taken_out_and_other_brackets_stay() -> None:
    (example,) = read(
        "webgpt", prompt="Why?", answer_0="So [1, 2].\nThus[3][4] [sic].", answer_1="No [1].", score_0=1, score_1=0
    )
    assert example == Example(WHY, "So.\nThus [sic].", "No.", "mine", margin=1, places=(0, 1))
    assert pairs("scored", prompt="Why?", answer_0="a [1]", answer_1="b", score_0=1, score_1=0) == [("a [1]", "b")]


def test_a_comparison_takes_the_post_from_the_prompt_or_builds_it() -> None:
    both = {"summaries": [{"text": " one"}, {"text": " two"}], "choice": 1}
    post = {"subreddit": "pets", "title": "Cat", "post": "She sleeps.", "article": None}
    assert pairs("comparisons", info=post, **both) == [("two", "one")]
    assert [each.places for each in read("comparisons", info=post, **both)] == [(1, 0)]
    (example,) = read("comparisons", info=post, **both)
    assert example.turns[0].text == "SUBREDDIT: r/pets\n\nTITLE: Cat\n\nPOST: She sleeps.\n\nTL;DR:"
    (example,) = read("comparisons", info={"article": "It rained.", "post": None}, **both)
    assert example.turns[0].text == "Article:\nIt rained.\n\nTL;DR:"
    (example,) = read("comparisons", prompt="given", info=post, **both)
    assert example.turns[0].text == "given"


def test_the_true_ending_beats_every_other() -> None:
    row = {"ctx": "Why?", "endings": ["a", "b", "c"]}
    assert pairs("endings", label="1", **row) == pairs("endings", label=1, **row) == [("b", "a"), ("b", "c")]
    assert pairs("endings", label="", **row) == []  # hidden


def test_the_first_passages_are_a_pair_or_a_demonstration() -> None:
    one, two = [{"text": "a"}, {"text": "x"}], [{"text": "b"}]
    assert pairs("passages", query="Why?", positive_passages=one, negative_passages=two) == [("a", "b")]
    assert pairs("passages", query="Why?", positive_passages=one, negative_passages=[]) == [("a", None)]
    assert pairs("passages", query="Why?", positive_passages=[], negative_passages=two) == []


@pytest.mark.parametrize(
    "answers", ["So.", ["So.", "Thus."], [" ", "So."], {"text": ["So."]}, [{"text": "So."}], [{"text": None}, {"text": "So."}]]
)
def test_the_first_answer_is_found_in_every_shape(answers: Any) -> None:
    assert demonstration("questions", question="Why?", answers=answers) == ("Why?", "So.")


def test_a_context_stands_before_the_question_and_may_not_answer_it() -> None:
    assert demonstration("questions", context=["", "It rained."], question="Why?", answers="So.") == (
        "It rained.\n\nWhy?",
        "So.",
    )
    assert demonstration("questions", context="It rained.", question="Why?", answers={"text": []})[1] == NO_ANSWER
    assert read("questions", question="Why?", answers=[]) == []


def test_several_questions_go_with_as_many_answers() -> None:
    found = read("questions", context="c", question=["p", "q"], answers=["a", "b"])
    assert [(example.turns[0].text, example.response) for example in found] == [("c\n\np", "a"), ("c\n\nq", "b")]
    with pytest.raises(BadRow, match="answers: is .*, not a list of 2, one to a question"):
        read("questions", question=["p", "q"], answers=["a"])


def test_options_stand_in_the_prompt() -> None:
    row = {"question": "2 + 2 ?", "options": "a ) 3 , b ) 4", "answer": '" two and two answer : b "'}
    assert demonstration("choices", **row) == ("2 + 2 ?\n\na ) 3 , b ) 4", "two and two answer : b")


def test_sentences_are_joined_and_the_first_summary_is_taken() -> None:
    assert demonstration("summary", document=["It rained.", "Much."], summary=["Rain.", "Wet."]) == (
        "Summarize the following text.\n\nIt rained. Much.",
        "Rain.",
    )
    with pytest.raises(BadRow, match="document: is empty"):
        read("summary", document=[], summary="Rain.")


def test_a_translation_goes_one_way_by_its_length() -> None:
    there = demonstration("translation", translation={"de": "Regen", "en": "Rain."})
    assert there == ("Translate from German to English.\n\nRegen", "Rain.")
    back = demonstration("translation", translation={"en": "Rain", "de": "Regen"})
    assert back == ("Translate from English to German.\n\nRain", "Regen")
    with pytest.raises(BadRow, match="translation: is .*, not two of de, en, fr, ru, zh"):
        read("translation", translation={"xx": "a", "en": "b"})


def test_each_reason_is_asked_for_by_its_label() -> None:
    row = {"context": "I lied.", "safety_annotations": ["caution", "casual"], "safety_annotation_reasons": ["it misleads", ""]}
    assert demonstration("reasons", **row) == ('Why does this remark call for the label "caution"?\n\nI lied.', "it misleads")


@pytest.mark.parametrize(
    ("kind", "row", "fault"),
    [
        (
            "scored",
            {"prompt": "p", "answer_0": "a", "answer_1": "b", "score_0": "1", "score_1": 0},
            "score_0: is '1', not a number",
        ),
        ("scored", {"prompt": "p", "answer_0": "a"}, "answer_1: is missing"),
        ("comparisons", {"summaries": [{"text": "a"}], "choice": 0}, "summaries: is .*, not a list of two"),
        ("comparisons", {"summaries": [{"text": "a"}, {"text": "b"}], "choice": 2}, "choice: is 2, not 0 or 1"),
        ("comparisons", {"summaries": [{"text": "a"}, {"text": 3}], "choice": 0}, r"summaries\[1\]\.text: is 3, not text"),
        ("endings", {"ctx": "c", "endings": ["a", "b"], "label": 2}, "label: is 2, not a place from 0 to 1"),
        ("endings", {"ctx": "c", "endings": "a", "label": 0}, "endings: is 'a', not a list of several"),
        ("passages", {"query": "q", "positive_passages": "a"}, "positive_passages: is 'a', not a list"),
        ("questions", {"answers": "a"}, "question: is missing"),
        ("questions", {"question": "q", "answers": 3}, "answers: is 3, not text"),
        ("reasons", {"context": "c", "safety_annotations": ["a"]}, "safety_annotation_reasons: are not as many"),
    ],
)
def test_a_row_of_another_shape_is_refused_with_its_column(kind: str, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadRow, match=fault):
        read(kind, **row)
