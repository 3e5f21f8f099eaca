"""Pieces of text as they are sampled: whole characters only, and nothing lost."""

import pytest

from rlhf.chat.speaker import UNKNOWN, whole_characters
from rlhf.config import Template
from rlhf.models.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(["a b c"], 280, Template.roles)
"""So small that every byte beyond ASCII is a token of its own."""


@pytest.mark.parametrize("text", ["plain words", "Grüße", "日本語 and 👋🏽 after", "é at the end: é"])
def test_pieces_hold_whole_characters_and_together_the_text(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    assert len(ids) >= len(text.encode()) - text.count(" ")
    pieces = list(whole_characters(TOKENIZER, iter(ids)))
    assert "".join(pieces) == text
    assert not any(UNKNOWN in piece for piece in pieces) and len(pieces) > 1


def test_a_character_is_shown_as_soon_as_it_is_whole() -> None:
    ids = TOKENIZER.encode("aéb", add_special_tokens=False)
    seen: list[str] = []
    handed = []
    for piece in whole_characters(TOKENIZER, (handed.append(token) or token for token in ids)):
        seen.append((piece, len(handed)))
    assert seen == [("a", 1), ("é", 3), ("b", 4)]


def test_bytes_that_never_become_a_character_do_not_hold_up_the_rest() -> None:
    broken = TOKENIZER.encode("é", add_special_tokens=False)[:1]
    ids = broken + TOKENIZER.encode(" goes on", add_special_tokens=False)
    assert "".join(whole_characters(TOKENIZER, iter(ids))) == f"{UNKNOWN} goes on"
    assert "".join(whole_characters(TOKENIZER, iter(broken * 9))) == UNKNOWN * 9


def test_special_tokens_are_not_shown() -> None:
    ids = [*TOKENIZER.encode("yes", add_special_tokens=False), TOKENIZER.eos_token_id]
    assert "".join(whole_characters(TOKENIZER, iter(ids))) == "yes"
