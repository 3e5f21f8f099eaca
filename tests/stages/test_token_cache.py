"""Token ids kept on disk are those that would be worked out, and nothing else is ever taken for them."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from rlhf.config import Template
from rlhf.data.records import Example, Turn
from rlhf.models.template import JINJA
from rlhf.models.tokenizer import train_tokenizer
from rlhf.stages import token_cache
from rlhf.stages.examples import tokens_of
from rlhf.stages.token_cache import Rows

EXAMPLES = [
    Example((Turn("user", f"What is {number} and one?"),), f"It is {number + 1}.", None, "sums") for number in range(12)
]
EXAMPLES[5] = replace(EXAMPLES[5], response="never " * 60)  # does not fit
PAIRED = [[example.response or "", "No idea."] for example in EXAMPLES]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerBase:
    texts = (f"{turn.text} {example.response}" for example in EXAMPLES for turn in example.turns)
    return train_tokenizer(texts, 300, Template.roles)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "KEPT_FROM", 10)
    monkeypatch.setattr(token_cache, "CHUNK", 5)


def test_processes_and_the_file_give_the_same_rows(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = tokens_of(tokenizer, EXAMPLES, PAIRED, 64)
    assert plain[5] is None and plain[6] is not None and len(plain[6]) == 2
    assert tokens_of(tokenizer, EXAMPLES, PAIRED, 64, tmp_path / "tokens") == plain
    assert "tokenising 12 rows" in capfd.readouterr().err

    def never(*_: object) -> Rows:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(token_cache, "_in_parallel", never)
    assert tokens_of(tokenizer, EXAMPLES, PAIRED, 64, tmp_path / "tokens") == plain
    assert capfd.readouterr().err == ""


def test_whatever_decides_the_rows_is_in_the_name(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, here: None) -> None:
    def kept(length: int = 64, examples: list[Example] = EXAMPLES) -> int:
        answers = [[example.response or ""] for example in examples]
        rows = tokens_of(tokenizer, examples, answers, length, tmp_path)
        assert rows == tokens_of(tokenizer, examples, answers, length)
        return len([*tmp_path.glob("*.npz")])

    assert kept() == 1
    assert kept(length=32) == 2
    assert kept(examples=[replace(EXAMPLES[0], response="Another answer."), *EXAMPLES[1:]]) == 3
    assert kept(examples=[replace(EXAMPLES[0], turns=(Turn("system", "Be brief."), *EXAMPLES[0].turns)), *EXAMPLES[1:]]) == 4
    tokenizer.chat_template = JINJA[Template.dialogue]
    assert kept() == 5
    tokenizer.add_tokens(["three and one"])
    assert kept() == 6
    assert kept() == 6


def test_a_damaged_file_is_made_again(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, here: None) -> None:
    plain = tokens_of(tokenizer, EXAMPLES, PAIRED, 64)
    assert tokens_of(tokenizer, EXAMPLES, PAIRED, 64, tmp_path) == plain
    (file,) = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole.replace(b"lengths", b"stretch")):
        file.write_bytes(damaged)
        assert tokens_of(tokenizer, EXAMPLES, PAIRED, 64, tmp_path) == plain
        assert file.read_bytes() == whole


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenise in this process; starting others takes seconds."""
    monkeypatch.setattr(token_cache, "_in_parallel", lambda tokenise, *what: tokenise(*what))
