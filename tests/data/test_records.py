"""What identifies a prompt."""

import dataclasses

import pytest

from rlhf.data.records import Example, Turn


def example(*turns: tuple[str, str], response: str | None = None) -> Example:
    return Example(tuple(Turn(role, text) for role, text in turns), response, None, "mine")


def test_the_key_sees_the_prompt_and_not_the_answer_the_source_or_the_white_space() -> None:
    first = example(("user", "Where is\n the  river ?"), response="here")
    second = dataclasses.replace(first, response=None, source="other", turns=(Turn("user", " Where is the river ? "),))
    assert first.key == second.key
    assert len(first.key) == 64


def test_the_key_sees_roles_borders_and_words() -> None:
    keys = {
        example(("user", "a b")).key,
        example(("user", "ab")).key,
        example(("user", "A b")).key,
        example(("system", "a"), ("user", "b")).key,
        example(("user", "a"), ("assistant", "x"), ("user", "b")).key,
        example(("assistant", "a"), ("user", "b")).key,
    }
    assert len(keys) == 6


def test_a_dialogue_and_its_continuation_share_their_opening_only() -> None:
    short, long = example(("user", "a")), example(("user", "a"), ("assistant", "b"), ("user", "c"))
    assert short.opening == long.opening
    assert short.key != long.key
    assert example(("system", "s"), ("user", "a")).opening == short.opening


def test_the_talk_is_the_prompt_without_the_system() -> None:
    plain = example(("user", "a"), ("assistant", "b"), ("user", "c"))
    assert plain.told("Be kind.").talk == plain.talk == plain.key != plain.told("Be kind.").key
    documents = [Example((), text, None, "mine") for text in ("one", "two")]
    assert [each.talk for each in documents] == [each.key for each in documents]


@pytest.mark.parametrize("turns", [(), (("user", "a"), ("assistant", "b"))])
def test_a_prompt_ends_with_the_user(turns: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(AssertionError):
        example(*turns)
