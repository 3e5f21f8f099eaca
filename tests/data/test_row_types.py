"""The row types of TRL and of other trainers: told by their columns, and read as they are meant."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rlhf.config import Format
from rlhf.data.formats import READERS, detect
from rlhf.data.records import BadRow, Example, Turn
from rlhf.data.sources import READERS as ALL

FOLDER = os.environ.get("RLHF_DATA_DIR")
ASK, SAY, MORE = Turn("user", "Why?"), Turn("assistant", "So."), Turn("user", "And?")
SYSTEM = Turn("system", "Be brief.")


def message(turn: Turn) -> dict[str, str]:
    return {"role": turn.role, "content": turn.text}


def read(row: dict[str, Any]) -> list[Example]:
    kind = detect(row)
    assert kind is not None
    return ALL[kind](row, "mine")


def test_each_answer_of_a_conversation_is_learnt_with_what_came_before_it() -> None:
    row = {"messages": [message(each) for each in (SYSTEM, ASK, SAY, MORE, Turn("assistant", "Thus."))]}
    assert detect(row) is Format.messages
    assert read(row) == [
        Example((SYSTEM, ASK), "So.", None, "mine"),
        Example((SYSTEM, ASK, SAY, MORE), "Thus.", None, "mine"),
    ]


@pytest.mark.parametrize(("label", "rating"), [(True, 1.0), (False, 0.0), ("True", 1.0), ("false", 0.0)])
def test_a_label_rates_the_last_answer(label: object, rating: float) -> None:
    row = {"messages": [message(each) for each in (ASK, SAY)], "label": label}
    assert read(row) == [Example((ASK,), "So.", None, "mine", rating=rating)]
    flat = {"prompt": "Why?", "completion": "So.", "label": label}
    assert read(flat) == [Example((ASK,), "So.", None, "mine", rating=rating)]


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
    assert read({"prompt": "Why?", "responses": ranks}) == [best]
    scores = [{"text": "c", "score": -1.0}, {"text": "a", "score": 9}, {"text": "b", "score": 0.5}]
    assert read({"prompt": "Why?", "responses": scores}) == [best]
    assert read({"prompt": "Why?", "responses": ["a", "a", "c"]}) == [Example((ASK,), "a", "c", "mine")]
    assert read({"prompt": "Why?", "responses": ["a", "a"]}) == []
    with pytest.raises(BadRow, match="a list of several"):
        read({"prompt": "Why?", "responses": ["a"]})


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


def test_a_system_column_goes_in_front() -> None:
    assert read({"prompt": "Why?", "completion": "So.", "system": "Be brief."}) == [Example((SYSTEM, ASK), "So.", None, "mine")]


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
