"""The row types of TRL and of other trainers: told by their columns, and read as they are meant."""

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf.config import Format
from rlhf.data.formats import READERS, detect
from rlhf.data.records import BadRow, Example, Turn
from rlhf.data.sources import READERS as ALL
from rlhf.data.sources import with_common_columns

FOLDER = os.environ.get("RLHF_DATA_DIR")
ASK, SAY, MORE = Turn("user", "Why?"), Turn("assistant", "So."), Turn("user", "And?")
SYSTEM = Turn("system", "Be brief.")


def message(turn: Turn) -> dict[str, str]:
    return {"role": turn.role, "content": turn.text}


def read(row: dict[str, Any]) -> list[Example]:
    kind = detect(row)
    assert kind is not None
    return with_common_columns(row, ALL[kind](row, "mine"))


def test_each_answer_of_a_conversation_is_learnt_with_what_came_before_it() -> None:
    row = {"messages": [message(each) for each in (SYSTEM, ASK, SAY, MORE, Turn("assistant", "Thus."))]}
    assert detect(row) is Format.messages
    assert read(row) == [
        Example((SYSTEM, ASK), "So.", None, "mine"),
        Example((SYSTEM, ASK, SAY, MORE), "Thus.", None, "mine"),
    ]


@pytest.mark.parametrize(
    ("label", "rating"), [(True, 1.0), (False, 0.0), ("True", 1.0), ("false", 0.0), (1, 1.0), (0, 0.0), ("1", 1.0), ("0", 0.0)]
)
def test_a_label_rates_the_last_answer(label: object, rating: float) -> None:
    row = {"messages": [message(each) for each in (ASK, SAY)], "label": label}
    assert read(row) == [Example((ASK,), "So.", None, "mine", rating=rating, demonstrates=rating > 0)]
    said = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    for other in (
        {"prompt": "Why?", "completion": "So."},
        {"instruction": "Why?", "input": "", "output": "So."},
        {"conversations": said},
    ):
        assert read({**other, "label": label}) == [Example((ASK,), "So.", None, "mine", rating=rating, demonstrates=rating > 0)]


@pytest.mark.parametrize(("rating", "wanted"), [(-4, -4.0), (3.5, 3.5), ("2", 2.0)])
def test_a_rating_may_be_any_number_and_makes_no_demonstration(rating: object, wanted: float) -> None:
    rated = [Example((ASK,), "So.", None, "mine", rating=wanted, demonstrates=False)]
    assert read({"prompt": "Why?", "completion": "So.", "rating": rating}) == rated
    assert read({"messages": [message(each) for each in (ASK, SAY)], "rating": rating}) == rated
    with pytest.raises(BadRow, match="rating: .* a finite number"):
        read({"prompt": "Why?", "completion": "So.", "rating": "good"})


@pytest.mark.parametrize("label", ["yes", "no", None, "", 2, 0.5, [], {}, float("nan")])
def test_a_label_that_is_neither_true_nor_false_is_a_bad_row(label: object) -> None:
    for row in (
        {"prompt": "Why?", "completion": "So."},
        {"messages": [message(each) for each in (ASK, SAY)]},
        {"instruction": "Why?", "input": "", "output": "So."},
    ):
        with pytest.raises(BadRow, match="label: is .*, not true or false, 1 or 0"):
            read({**row, "label": label})


def test_a_margin_is_read_wherever_pairs_are_and_is_finite() -> None:
    said = [{"from": "human", "value": "Why?"}]
    answers = {side: {"from": "gpt", "value": text} for side, text in (("chosen", "So."), ("rejected", "No."))}
    rows: list[dict[str, Any]] = [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"instruction": "Why?", "chosen": "So.", "rejected": "No."},
        {"chosen": "Human: Why?\n\nAssistant: So.", "rejected": "Human: Why?\n\nAssistant: No."},
        {"conversations": said, **answers},
    ]
    for row in rows:
        assert read(row | {"margin": 2}) == [Example((ASK,), "So.", "No.", "mine", margin=2.0)]
        for wrong in (float("inf"), float("nan"), "inf", "", -1, True, 10**400):
            with pytest.raises(BadRow, match="margin: is .*, not a finite number of at least 0"):
                read(row | {"margin": wrong})


def test_prompts_and_answers_may_be_lists_of_messages() -> None:
    prompt = [message(each) for each in (SYSTEM, ASK)]
    assert read({"prompt": prompt, "completion": [message(SAY)]}) == [Example((SYSTEM, ASK), "So.", None, "mine")]
    pair = {"prompt": prompt, "chosen": [message(SAY)], "rejected": [message(Turn("assistant", "No."))]}
    assert read(pair) == [Example((SYSTEM, ASK), "So.", "No.", "mine")]


def test_a_pair_may_say_by_how_much() -> None:
    assert read({"prompt": "Why?", "chosen": "So.", "rejected": "No.", "margin": 1.5})[0].margin == 1.5
    with pytest.raises(BadRow, match="margin: is -1"):
        read({"prompt": "Why?", "chosen": "So.", "rejected": "No.", "margin": -1})


def test_a_pair_may_hold_its_prompt_in_both_answers() -> None:
    answers = {"chosen": Turn("assistant", "So."), "rejected": Turn("assistant", "No.")}
    sides = {side: [message(ASK), message(answer)] for side, answer in answers.items()}
    assert read(sides) == [Example((ASK,), "So.", "No.", "mine")]
    plain = {"chosen": "The sky is blue.", "rejected": "The sky is black."}
    assert read(plain) == [Example((Turn("user", "The sky is"),), "blue.", "black.", "mine")]
    with pytest.raises(BadRow, match="no beginning in common"):
        read({"chosen": "One.", "rejected": "Two."})
    with pytest.raises(BadRow, match="more than the last message"):
        read({"chosen": [message(ASK), message(SAY)], "rejected": [message(MORE), message(SAY)]})


def test_ranked_lists() -> None:
    best = Example((ASK,), "a", "c", "mine", ranking=("a", "b", "c"))
    assert read({"prompt": "Why?", "responses": ["a", "b", "c"]}) == [best]
    ranks = [{"text": "c", "rank": 2}, {"text": "a", "rank": 0}, {"text": "b", "rank": 1}]
    assert read({"prompt": "Why?", "responses": ranks}) == [replace(best, places=(1, 2, 0))]
    scores = [{"text": "c", "score": -1.0}, {"text": "a", "score": 9}, {"text": "b", "score": 0.5}]
    assert read({"prompt": "Why?", "responses": scores}) == [replace(best, places=(1, 2, 0))]
    assert read({"prompt": "Why?", "responses": ["a", "a", "c"]}) == [Example((ASK,), "a", "c", "mine")]
    assert read({"prompt": "Why?", "responses": ["a", "a"]}) == []
    with pytest.raises(BadRow, match="a list of several"):
        read({"prompt": "Why?", "responses": ["a"]})


def test_answers_with_the_same_score_are_not_compared() -> None:
    def scored(*scores: object, column: str = "score") -> list[Example]:
        texts = [{"text": text, column: score} for text, score in zip("abcd", scores, strict=False)]
        return read({"prompt": "Why?", "responses": texts})

    assert scored(1, 2, 2, 0) == [Example((ASK,), "b", "d", "mine", ranking=("b", "a", "d"), places=(1, 0, 3))]
    assert scored(0, 0, 1, column="rank") == [Example((ASK,), "a", "c", "mine", places=(0, 2))]
    assert scored(1, 1) == []  # a draw
    for wrong in (float("nan"), float("inf"), "1", True):
        with pytest.raises(BadRow, match=r"responses\[1\]\.score: is .*, not a finite number"):
            scored(1, wrong)
    with pytest.raises(BadRow, match=r"responses\[1\]\.rank: is missing, and so is a score"):
        read({"prompt": "Why?", "responses": [{"text": "a", "score": 1}, {"text": "b", "rank": 1}]})


def test_sharegpt_with_and_without_a_preference() -> None:
    said = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Why?"}]
    answers = {side: {"from": "gpt", "value": text} for side, text in (("chosen", "So."), ("rejected", "No."))}
    assert read({"conversations": said, **answers}) == [Example((SYSTEM, ASK), "So.", "No.", "mine")]
    assert read({"conversations": [*said, {"from": "gpt", "value": "So."}]}) == [Example((SYSTEM, ASK), "So.", None, "mine")]


def test_a_tree_gives_ranked_lists() -> None:
    replies = [
        {"text": text, "role": "assistant", "rank": rank, "replies": []} for text, rank in (("b", 1), ("a", 0), ("c", 2))
    ]
    tree = {"message_tree_id": "1", "tree_state": "ready_for_export",
            "prompt": {"text": "Why?", "role": "prompter", "replies": replies}}  # fmt: skip
    assert read(tree) == [Example((ASK,), "a", "c", "mine", ranking=("a", "b", "c"))]


def test_a_text_may_be_continued_behind_its_first_sentence() -> None:
    read_as = READERS[Format.continuation]
    story = {"text": 'Tim had a dog. It said "no." They played.'}
    assert read_as(story, "mine") == [Example((Turn("user", "Tim had a dog."),), 'It said "no." They played.', None, "mine")]
    assert read_as({"text": "One sentence only."}, "mine") == []


SAID = [message(each) for each in (ASK, SAY)]


@pytest.mark.parametrize(
    ("row", "rejected"),
    [
        ({"prompt": "Why?", "completion": "So."}, None),
        ({"prompt": SAID[:1], "completion": SAID[1:]}, None),
        ({"instruction": "Why?", "output": "So."}, None),
        ({"messages": SAID}, None),
        ({"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}, None),
        ({"prompt": "Why?", "chosen": "So.", "rejected": "No."}, "No."),
        ({"prompt": "Why?", "responses": ["So.", "No."]}, "No."),
        ({"chosen": "Human: Why?\n\nAssistant: So.", "rejected": "Human: Why?\n\nAssistant: No."}, "No."),
    ],
)
def test_a_system_column_goes_in_front(row: dict[str, Any], rejected: str | None) -> None:
    assert read(row | {"system": "Be brief."}) == [Example((SYSTEM, ASK), "So.", rejected, "mine")]
    assert read(row | {"system": None}) == read(row | {"system": " "}) == read(row)


def test_what_the_system_says_stands_in_one_place() -> None:
    whole = [message(SYSTEM), *SAID]
    for row in ({"messages": whole}, {"prompt": whole[:2], "completion": "So."}):
        with pytest.raises(BadRow, match="system: stands beside a dialogue that has a system turn of its own"):
            read({**row, "system": "Be long."})


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ((ASK, ASK), r"prompt\[1\]: is the user's, as the one before it"),
        ((SYSTEM, SAY, ASK), r"prompt\[1\]: is the assistant's, and nobody has asked"),
        ((ASK, SAY, SYSTEM, ASK), r"prompt\[2\]: is the system's, which can only open"),
        ((ASK, SAY), "prompt: does not end with a message of the user"),
        ((), "prompt: does not end with a message of the user"),
    ],
)
def test_a_prompt_takes_turns_as_a_dialogue_does(turns: tuple[Turn, ...], fault: str) -> None:
    with pytest.raises(BadRow, match=fault):
        read({"prompt": [message(turn) for turn in turns], "completion": "So."})


@pytest.mark.parametrize(
    ("file", "kind", "counts"),
    [
        ("preference/kto_unpaired.jsonl.gz", Format.messages, {"rated": 300}),
        ("preference/sharegpt_dpo.jsonl.gz", Format.sharegpt, {"pairs": 190}),
        ("preference/oasst_trees.jsonl.gz", Format.oasst, {"lists": 1}),
    ],
)
@pytest.mark.skipif(FOLDER is None, reason="RLHF_DATA_DIR is not set: it names the folder of the real data sets")
def test_real_files(file: str, kind: Format, counts: dict[str, int]) -> None:
    with gzip.open(Path(FOLDER or "") / file, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    assert detect(rows[0]) is kind
    examples = [example for row in rows for example in ALL[kind](row, "mine")]
    found = {
        "rated": sum(each.rating is not None for each in examples),
        "pairs": sum(each.rejected is not None for each in examples),
        "lists": sum(len(each.ranking) > 2 for each in examples),
    }
    assert all(found[name] >= 0.9 * count for name, count in counts.items()), found
    assert set(READERS) <= set(ALL)


def test_whole_dialogues_beside_a_prompt_and_margins_as_text() -> None:
    sides = {"chosen": [message(ASK), message(SAY)], "rejected": [message(ASK), message(Turn("assistant", "No."))]}
    assert read({"prompt": "Why?", **sides, "margin": 2}) == [Example((ASK,), "So.", "No.", "mine", margin=2)]
    flat = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    assert read(flat | {"margin": "1.5"}) == [Example((ASK,), "So.", "No.", "mine", margin=1.5)]
    with pytest.raises(BadRow, match="margin: is 'much'"):
        read(flat | {"margin": "much"})
