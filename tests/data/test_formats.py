"""Every format on rows written by hand, good and bad."""

from typing import Any

import pytest

from rlhf.config import Format
from rlhf.data import dialogues, upstream
from rlhf.data.formats import COLUMNS, READERS, detect
from rlhf.data.generated import OF_WORLD
from rlhf.data.records import BadRow, Example, Turn

QUESTION = (Turn("user", "Why?"),)
DIALOGUE = (Turn("user", "Hello"), Turn("assistant", "Hi there"), Turn("user", "Why?"))


def read(kind: str, row: dict[str, Any]) -> list[Example]:
    return READERS[Format[kind]](row, "mine")


def one(kind: str, row: dict[str, Any]) -> Example:
    (example,) = read(kind, row)
    return example


def vote(*annotators: Any, **columns: Any) -> dict[str, Any]:
    row = {"instruction": "Why?", "input": "", "response1": "one", "response2": "two"} | columns
    return row | {f"annotator{number}": choice for number, choice in enumerate(annotators, start=1)}


def ranked(*responses: Any, baseline: Any = "base") -> dict[str, Any]:
    rows = [{"model": "m", "output": output, "preference": preference} for output, preference in responses]
    return {"prompt": "Why?", "baseline": {"output": baseline}, "responses": rows}


def test_every_format_has_a_reader_and_is_recognised_by_its_own_columns() -> None:
    elsewhere = set(upstream.READERS) | set(dialogues.READERS)
    assert set(READERS) == set(Format) - {Format.auto, *OF_WORLD} - elsewhere
    assert set(READERS) - {Format.continuation} <= set(COLUMNS) <= set(READERS) | elsewhere  # it must be asked for
    for kind, columns in COLUMNS.items():
        assert detect(columns) is kind


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        ("prompt response chosen rejected", "pair"),
        ("instruction input output chosen rejected", "alpaca_pair"),
        ("id instruction input output set", "alpaca"),
        ("chosen rejected", "transcripts"),
        ("task prompt answer rationale", "completion"),
        ("idx instruction input response1 response2 annotator1 annotator2 annotator3", "pandalm"),
        ("prompt dataset baseline responses", "judged"),
        ("id conversations", "sharegpt"),
        ("message_tree_id tree_state prompt", "oasst"),
    ],
)
def test_the_most_specific_format_is_recognised(columns: str, kind: str) -> None:
    assert detect(columns.split()) is Format[kind]


def test_unknown_columns_are_not_guessed() -> None:
    assert detect(["question", "words"]) is None
    assert detect(["question", "text"]) is Format.text
    assert detect(["instruction"]) is None


@pytest.mark.parametrize("column", ["completion", "response", "answer", "output"])
def test_completion(column: str) -> None:
    assert one("completion", {"prompt": " Why?\n", column: "  So. "}) == Example(QUESTION, "So.", None, "mine")


def test_completion_without_an_answer_is_a_prompt_only() -> None:
    assert one("completion", {"prompt": "Why?"}) == Example(QUESTION, None, None, "mine")


def test_alpaca_puts_the_input_under_the_instruction() -> None:
    row = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert one("alpaca", row) == Example((Turn("user", "Add.\n\n1 2"),), "3", None, "mine")
    for empty in ("", "  ", None):
        assert one("alpaca", row | {"input": empty}).turns == (Turn("user", "Add."),)
    assert one("alpaca", {"instruction": "Add.", "output": "3"}).turns == (Turn("user", "Add."),)


def test_pair_with_a_plain_prompt() -> None:
    assert one("pair", {"prompt": "Why?", "chosen": "So.", "rejected": "No."}) == Example(QUESTION, "So.", "No.", "mine")


@pytest.mark.parametrize(
    "prompt",
    [
        "\n\nHuman: Hello\n\nAssistant: Hi there\n\nHuman: Why?\n\nAssistant:",
        "\n\nHuman: Hello\n\nAssistant: Hi there\n\nHuman: Why?\n\nAssistant: ",
        "Human: Hello\n\nAssistant: Hi there\n\nHuman: Why?",
    ],
)
@pytest.mark.parametrize("lead", ["", " ", "Assistant: "])
def test_pair_with_a_dialogue_as_prompt(prompt: str, lead: str) -> None:
    row = {"prompt": prompt, "chosen": f"{lead}So.", "rejected": f"{lead}No."}
    assert one("pair", row) == Example(DIALOGUE, "So.", "No.", "mine")


def test_a_mark_inside_a_line_is_text() -> None:
    row = {"prompt": "What does Human: mean in\nAssistant: logs?", "chosen": "So.", "rejected": "No."}
    assert one("pair", row).turns == (Turn("user", row["prompt"]),)


def test_alpaca_pair_leaves_the_output_aside() -> None:
    row = {"instruction": "Why?", "input": "", "output": "other", "chosen": "So.", "rejected": "No."}
    assert one("alpaca_pair", row) == Example(QUESTION, "So.", "No.", "mine")


def test_transcripts_share_all_but_the_last_answer() -> None:
    common = "\n\nHuman: Hello\n\nAssistant: Hi there\n\nHuman: Why?\n\nAssistant:"
    assert one("transcripts", {"chosen": f"{common} So.", "rejected": f"{common} No."}) == Example(
        DIALOGUE, "So.", "No.", "mine"
    )


def test_judged_pairs_each_response_with_the_baseline_and_passes_over_draws() -> None:
    row = ranked(("better", 1.0), ("worse", 0.0), ("same", 0.5), ("rather", 0.7))
    assert [(each.response, each.rejected) for each in read("judged", row)] == [
        ("better", "base"),
        ("base", "worse"),
        ("rather", "base"),
    ]
    assert {each.turns for each in read("judged", row)} == {QUESTION}


def test_judged_keeps_an_empty_answer_that_lost_but_not_one_that_won() -> None:
    assert [(each.response, each.rejected) for each in read("judged", ranked(("", 0.0), (" ", 1.0)))] == [("base", "")]


@pytest.mark.parametrize(
    ("votes", "expected"),
    [((1, 1, 2), ("one", "two")), ((2, 2, 2), ("two", "one")), ((2, 0, 2), ("two", "one")), ((2, 2), ("two", "one"))],
)
def test_pandalm_follows_the_majority(votes: tuple[int, ...], expected: tuple[str, str]) -> None:
    example = one("pandalm", vote(*votes))
    assert (example.response, example.rejected) == expected


def test_where_answers_stood_is_kept_where_rows_have_an_order_of_their_own() -> None:
    assert [one("pandalm", vote(*votes)).places for votes in ((1, 1, 2), (2, 2, 2))] == [(0, 1), (1, 0)]
    scores = (("worst", 1), ("best", 9), ("best", 4), ("c", 5))
    answers = [{"text": text, "score": score} for text, score in scores]
    listed = one("ranked", {"prompt": "Why?", "responses": answers})
    assert (listed.ranking, listed.places) == (("best", "c", "worst"), (1, 3, 0))
    assert one("ranked", {"prompt": "Why?", "responses": ["best", "worst"]}).places == ()  # their order is the ranking
    assert one("pair", {"prompt": "Why?", "chosen": "a", "rejected": "b"}).places == ()


@pytest.mark.parametrize("votes", [(0, 0, 1), (0, 1, 2), (1, 2), (0, 0, 0), ()])
def test_pandalm_without_a_majority_is_skipped_not_bad(votes: tuple[int, ...]) -> None:
    assert read("pandalm", vote(*votes)) == []


def test_pandalm_keeps_an_empty_answer_that_lost_but_not_one_that_won() -> None:
    assert one("pandalm", vote(1, 1, 1, response2=" ")).rejected == ""
    assert read("pandalm", vote(2, 2, 2, response2="")) == []


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    ("completion", {"prompt": "", "answer": "So."}, "prompt", "empty"),
    ("completion", {"prompt": "Why?", "answer": "\n"}, "answer", "empty"),
    ("completion", {"prompt": "Why?", "answer": 3}, "answer", "not text"),
    ("completion", {"prompt": "Why?", "answer": None}, "answer", "not text"),
    ("completion", {"prompt": "Why \ud800?", "answer": "So."}, "prompt", "surrogate"),
    ("completion", {"prompt": "Human: Hello\n\nAssistant: Hi", "answer": "So."}, "prompt", "ends with an answer"),
    ("completion", {"prompt": "Human: Hello\n\nAssistant: Hi\n\nHuman:", "answer": "So."}, "prompt", "empty turn"),
    ("completion", {"prompt": "Human: Hello\n\nHuman: Why?", "answer": "So."}, "prompt", "same speaker"),
    ("completion", {"prompt": "Human:", "answer": "So."}, "prompt", "empty turn"),
    ("alpaca", {"instruction": " ", "input": "x", "output": "3"}, "instruction", "empty"),
    ("alpaca", {"instruction": "Add.", "input": "", "output": ""}, "output", "empty"),
    ("alpaca", {"instruction": "Add.", "input": ["1"], "output": "3"}, "input", "not text"),
    ("alpaca", {"instruction": "Add."}, "output", "missing"),
    ("pair", {"prompt": "Why?", "chosen": "So.", "rejected": ""}, "rejected", "empty"),
    ("pair", {"prompt": "Why?", "chosen": "Assistant: ", "rejected": "No."}, "chosen", "empty"),
    ("alpaca_pair", {"instruction": "Why?", "chosen": "So."}, "rejected", "missing"),
    ("transcripts", {"chosen": "So.", "rejected": "Human: Why?"}, "chosen", "begin"),
    ("transcripts", {"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: c\n\nAssistant: d"}, "rejected", "more than"),
    ("transcripts", {"chosen": "Human: a\n\nAssistant:", "rejected": "Human: a\n\nAssistant: d"}, "chosen", "empty"),
    ("transcripts", {"chosen": "Human: a\n\nAssistant: b", "rejected": "Human: a"}, "rejected", "does not end"),
    ("judged", ranked(("x", "good")), "responses[0].preference", "number"),
    ("judged", ranked(("x", float("nan"))), "responses[0].preference", "number"),
    ("judged", ranked(("x", 1.0), (None, 1.0)), "responses[1].output", "not text"),
    ("judged", {"prompt": "Why?", "baseline": "base", "responses": []}, "baseline", "not an object"),
    ("judged", {"prompt": "Why?", "baseline": {"output": "b"}, "responses": {}}, "responses", "not a list"),
    ("pandalm", vote(1, 3, 1), "annotator2", "0, 1 or 2"),
    ("pandalm", vote(1, 1, 1, instruction=""), "instruction", "empty"),
    ("pandalm", vote(1, 1, 1, response1=None), "response1", "not text"),
]


@pytest.mark.parametrize(("kind", "row", "field", "reason"), BAD, ids=lambda value: value if isinstance(value, str) else "row")
def test_bad_rows_name_the_column_and_the_reason(kind: str, row: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        read(kind, row)
    assert caught.value.field == field
    assert reason in caught.value.reason
