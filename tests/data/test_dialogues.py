"""Dialogues in the shapes they are published in: what exactly comes of them, and what is refused."""

from typing import Any

import pytest

from rlhf.config import Format
from rlhf.data.dialogues import READERS
from rlhf.data.records import BadDialogue, BadRow, Example, Turn
from rlhf.data.sources import with_common_columns


def read(kind: str, **row: Any) -> list[Example]:
    return with_common_columns(row, READERS[Format[kind]](row, "mine"))


def told(example: Example) -> str:
    """A dialogue in one line: the first letters of the roles with their texts, then the answer and what lost against it."""
    lost = "" if example.rejected is None else f" > {example.rejected}"
    return " ".join([*(f"{turn.role[0]}:{turn.text}" for turn in example.turns), f"-> {example.response}{lost}"])


def all_told(kind: str, **row: Any) -> list[str]:
    return [told(example) for example in read(kind, **row)]


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"from": turn.partition(":")[0], "value": turn.partition(":")[2]} for turn in turns]


def test_each_answer_is_an_example_with_what_came_before() -> None:
    turns = chat("system:Be kind.", "human:Why?", "gpt:So.", "user:Sure?", "assistant:Yes.", "human:Thanks.")
    assert all_told("sharegpt", conversations=turns) == [
        "s:Be kind. u:Why? -> So.",
        "s:Be kind. u:Why? a:So. u:Sure? -> Yes.",
    ]


def test_the_last_question_may_stand_without_an_answer_and_a_system_may_say_nothing() -> None:
    turns = chat("system:", "human:Why?", "gpt:So.", "human:")
    assert all_told("sharegpt", conversations=turns) == all_told("sharegpt", conversations=turns[:-1]) == ["u:Why? -> So."]


def test_turns_may_be_named_as_in_messages() -> None:
    said = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    assert all_told("sharegpt", conversations=said) == ["u:Why? -> So."]
    assert all_told("sharegpt", conversations=said[:1], chosen=said[1], rejected={"role": "assistant", "content": "No."}) == [
        "u:Why? -> So. > No."
    ]


def test_turns_of_one_speaker_are_joined() -> None:
    assert all_told("sharegpt", conversations=chat("human:Why", "human:now?", "gpt:So.")) == ["u:Why\nnow? -> So."]


@pytest.mark.parametrize(
    ("turns", "fault"),
    [
        ([], "conversations: is empty"),
        (["gpt:So."], r"conversations\[0\]: is the assistant's, and nobody has asked"),
        (["system:s", "gpt:So."], r"conversations\[1\]: is the assistant's, and nobody has asked"),
        (["human:Why?", "gpt:So.", "system:s", "human:Why?"], r"conversations\[2\]: is the system's, which can only open"),
        (["human:Why?"], r"conversations\[0\]: is the last turn, and nobody answers it"),
        (["human: ", "gpt:So."], r"conversations\[0\]: is empty"),
        (["human:Why?", "gpt:"], r"conversations\[1\]: is empty"),
    ],
)
def test_a_dialogue_in_which_nobody_can_tell_who_answers_whom_is_refused_with_its_turn(turns: list[str], fault: str) -> None:
    with pytest.raises(BadDialogue, match=fault):
        read("sharegpt", conversations=chat(*turns))


def test_messages_of_one_speaker_are_not_joined() -> None:
    answers = [{"role": "user", "content": "Why?"}, *[{"role": "assistant", "content": text} for text in ("So.", "Yes.")]]
    with pytest.raises(BadDialogue, match=r"messages\[2\]: is the assistant's, as the one before it"):
        read("messages", messages=answers)
    with pytest.raises(BadDialogue, match=r"messages\[1\]: is empty"):
        read("messages", messages=[answers[0], {"role": "assistant", "content": None}])


@pytest.mark.parametrize(
    "text",
    [
        "<human>: Why?\n<bot>: So, User: said.\n<human>: Sure?\n<bot>: Yes.",
        "User: Why?\nAssistant: So, USER: said.\nUser: Sure?\nAssistant: Yes.",
        "USER: Why? ASSISTANT: So, <human>: said. USER: Sure? ASSISTANT: Yes.",
    ],
)
def test_marks_of_the_first_kind_part_the_turns(text: str) -> None:
    first, second = read("marked", text=text)
    assert told(first).startswith("u:Why? -> So, ") and told(first).endswith(": said.")
    assert second.turns[-1] == Turn("user", "Sure?") and second.response == "Yes."


def test_of_a_marked_dialogue_with_its_answer_beside_it_only_that_is_learnt() -> None:
    text = "A chat. USER: Why? ASSISTANT: So. USER: Sure? ASSISTANT:"
    assert all_told("marked", text=text, response="Yes.") == ["s:A chat. u:Why? a:So. u:Sure? -> Yes."]
    assert all_told("marked", text=text.removesuffix(" ASSISTANT:"), response="Yes.") == [
        "s:A chat. u:Why? a:So. u:Sure? -> Yes."
    ]
    with pytest.raises(BadDialogue, match="response: is empty"):
        read("marked", text=text, response="")


@pytest.mark.parametrize(
    "text", ["", "no marks", "<bot>: So.", "<human>: Why?", "<human>: Why?\n<human>: Why?\n<bot>: So.", "<human>:\n<bot>: So."]
)
def test_a_marked_text_without_a_dialogue_is_refused(text: str) -> None:
    with pytest.raises(BadDialogue, match="text: "):
        read("marked", text=text)


def test_rounds_under_a_system_message_or_in_the_row() -> None:
    two = [{"input": "Why?", "output": "So."}, {"input": "Sure?", "output": "Yes."}]
    assert all_told("rounds", system="Be terse.", rounds=two) == [
        "s:Be terse. u:Why? -> So.",
        "s:Be terse. u:Why? a:So. u:Sure? -> Yes.",
    ]
    assert all_told("rounds", system="", input="Why?", output="So.") == all_told("rounds", rounds=two[:1]) == ["u:Why? -> So."]


def test_a_scene_is_played_with_its_second_speaker() -> None:
    row = {"narrative": "Ida waits.", "dialogue": ["Where?", "Here.", "Ah."], "speakers": ["Ida", "Per", "Ida"]}
    assert all_told("scenes", **row) == ["s:Ida waits. You are Per. u:Where? -> Here."]
    assert read("scenes", narrative="n", dialogue=["a", "b", "c"], speakers=["A", "B", "C"]) == []
    with pytest.raises(BadDialogue, match=r"dialogue\[1\]: is the user's, as the one before it"):
        read("scenes", narrative="n", dialogue=["a", "b", "c"], speakers=["A", "A", "B"])


def message(text: str, *replies: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {"text": text, "replies": list(replies), **values}


def test_ranked_replies_are_a_list_and_others_demonstrations() -> None:
    follow = message("Sure?", message("Yes.", rank=None), message("No.", rank=None))
    tree = message("Why?", message("c", rank=2), message("a", follow, rank=0), message("b", rank=1), message("new", rank=None))
    assert all_told("oasst", message_tree_id="t", prompt=tree) == [
        "u:Why? -> a > c",
        "u:Why? a:a u:Sure? -> Yes.",
        "u:Why? a:a u:Sure? -> No.",
    ]


def test_what_was_deleted_or_never_finished_is_passed_over() -> None:
    tree = message("Why?", message("a", rank=0), message("spam", message("?"), rank=1, deleted=True))
    assert all_told("oasst", tree_state="ready_for_export", prompt=tree) == ["u:Why? -> a"]
    assert read("oasst", tree_state="growing", prompt=tree) == []
    assert read("oasst", prompt=message("Why?", deleted=True)) == []


def test_a_message_without_replies_is_a_prompt() -> None:
    assert read("oasst", prompt={"text": "Why?"}) == [Example((Turn("user", "Why?"),), None, None, "mine")]


@pytest.mark.parametrize(
    ("kind", "row", "fault"),
    [
        ("sharegpt", {"conversations": "a"}, "conversations: is 'a', not a list"),
        (
            "sharegpt",
            {"conversations": [{"from": "cat", "value": "a"}]},
            r"conversations\[0\]\.from: is 'cat', not one of human",
        ),
        ("sharegpt", {"conversations": [{"from": "gpt", "value": 3}]}, r"conversations\[0\]\.value: is 3, not text"),
        ("marked", {}, "text: is missing"),
        ("rounds", {"rounds": "a"}, "rounds: is 'a', not a list"),
        ("rounds", {"rounds": [{"input": "a"}]}, r"rounds\[0\]\.output: is missing"),
        ("rounds", {"input": "a"}, "output: is missing"),
        ("scenes", {"dialogue": ["a"], "speakers": []}, "speakers: are 0, not as many as the 1 lines"),
        ("oasst", {"prompt": "a"}, "prompt: is 'a', not an object"),
        ("oasst", {"prompt": message("Why?", message(""))}, r"prompt\.replies\[0\]\.text: is empty"),
        ("oasst", {"prompt": message("a", message("b", message(" ")))}, r"prompt\.replies\[0\]\.replies\[0\]\.text: is empty"),
    ],
)
def test_a_row_of_another_shape_is_refused_with_its_column(kind: str, row: dict[str, Any], fault: str) -> None:
    with pytest.raises(BadRow, match=fault):
        read(kind, **row)
