"""What is learnt of a conversation, read back as text."""

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from rlhf.config import SFTTargets, Template
from rlhf.data.records import Example, Turn
from rlhf.models.template import prompt_tokens
from rlhf.models.tokenizer import train_tokenizer
from rlhf.stages.batches import Demonstration, Sequences
from rlhf.stages.conversations import with_targets
from rlhf.stages.examples import tokens_of
from rlhf.stages.shown import LONGEST, as_text

SAID = ("Why?", "So.", "Sure? Human: yes", "Yes. <|eos|> really", "Ah.", "Bye.")
TURNS = tuple(Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(SAID))
SYSTEM = Turn("system", "Be kind.")
TOKENIZERS = {
    kind: train_tokenizer([*SAID, "Human: Assistant:"] * 2, 300, kind) for kind in Template if kind.name != "tokenizer"
}


@pytest.fixture(params=[Template.roles, Template.dialogue], ids=lambda template: template.name)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return TOKENIZERS[request.param]


def conversation(*places: int, source: str = "mine", system: bool = True) -> list[Example]:
    """The examples whose answers are the turns at ``places``."""
    lead = (SYSTEM,) if system else ()
    return [Example((*lead, *TURNS[:place]), TURNS[place].text, None, source) for place in places]


def rows_of(
    tokenizer: PreTrainedTokenizerBase, examples: list[Example], targets: str = "assistant_turns", longest: int = 1000
) -> list[Demonstration | None]:
    tokens = tokens_of(tokenizer, examples, [[example.response or ""] for example in examples], longest)
    return with_targets(tokenizer, examples, [None if row is None else row[0] for row in tokens], SFTTargets[targets])


def learnt(tokenizer: PreTrainedTokenizerBase, row: Demonstration | None) -> list[str]:
    """The runs of target tokens as text."""
    assert row is not None
    batch = Sequences.demonstrated([row], tokenizer.pad_token_id, torch.device("cpu"))
    runs: list[list[int]] = [[]]
    for token, target in zip(batch.ids[0].tolist(), batch.targets[0].tolist(), strict=True):
        runs[-1].append(token) if target else runs.append([])
    return [tokenizer.decode(run) for run in runs if run]


def test_all_answers_and_their_end_tokens_and_nothing_else(tokenizer: PreTrainedTokenizerBase) -> None:
    (row,) = rows_of(tokenizer, conversation(5))
    expected = ["So.<|eos|>", "Yes. <|eos|> really<|eos|>", "Bye.<|eos|>"]
    assert [text.strip() for text in learnt(tokenizer, row)] == expected


def test_the_beginnings_of_a_conversation_are_passed_over(tokenizer: PreTrainedTokenizerBase) -> None:
    first, second, last = rows_of(tokenizer, conversation(1, 3, 5))
    assert first is None and second is None and len(learnt(tokenizer, last)) == 3


def test_the_same_words_elsewhere_are_no_beginning(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = rows_of(tokenizer, [*conversation(1, system=False), *conversation(1, source="other"), *conversation(3)])
    assert [len(learnt(tokenizer, row)) for row in rows] == [1, 1, 2]


def test_what_the_branches_of_a_tree_share_is_learnt_once(tokenizer: PreTrainedTokenizerBase) -> None:
    other = Example((*TURNS[:2], Turn("user", "No?")), "No.", None, "mine")
    rows = rows_of(tokenizer, [*conversation(1, 3, system=False), other])
    assert rows[0] is None
    texts = [text.strip() for row in rows[1:] for text in learnt(tokenizer, row)]
    assert sorted(texts) == ["No.<|eos|>", "So.<|eos|>", "Yes. <|eos|> really<|eos|>"]


def test_an_answer_that_was_cut_off_is_learnt_in_a_shorter_row(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = conversation(1, 3, 5)
    room = len(prompt_tokens(tokenizer, examples[2].turns, 1000)) + 8  # the response takes more
    for longest in range(room, 24, -1):
        rows = rows_of(tokenizer, examples, longest=longest)
        fits = tokens_of(tokenizer, examples, [[example.response or ""] for example in examples], longest)
        found = sorted(text.strip() for row in rows if row is not None for text in learnt(tokenizer, row))
        expected = ["So.<|eos|>", "Yes. <|eos|> really<|eos|>", "Bye.<|eos|>"]
        possible = [text for text, row in zip(expected, fits, strict=True) if row is not None]
        assert set(possible) <= set(found) <= set(expected) and len(found) == len(set(found))


def test_a_template_without_roles_or_end_tokens_learns_what_it_closes() -> None:
    tokenizer = TOKENIZERS[Template.plain]
    (row,) = rows_of(tokenizer, conversation(3))
    assert [text.strip() for text in learnt(tokenizer, row)] == ["So.<|eos|>", "Yes. <|eos|> really<|eos|>"]
    endless = train_tokenizer(SAID, 300, Template.roles)
    endless.chat_template = str(endless.chat_template).replace("{{ eos_token }}", "")
    first, last = rows_of(endless, conversation(1, 3))
    assert (learnt(endless, first), learnt(endless, last)) == (["So.<|eos|>"], ["Yes. <|eos|> really<|eos|>"])


def test_response_and_all(tokenizer: PreTrainedTokenizerBase) -> None:
    for row in rows_of(tokenizer, conversation(1, 3), "response"):
        assert len(learnt(tokenizer, row)) == 1
    (row,) = rows_of(tokenizer, conversation(3), "all")
    assert row is not None
    (text,) = learnt(tokenizer, row)
    assert text == tokenizer.decode([*row[0][0][1:], *row[0][1]])


def test_a_row_as_a_person_reads_it() -> None:
    tokenizer = TOKENIZERS[Template.roles]
    (row,) = rows_of(tokenizer, conversation(3))
    assert row is not None
    (prompt, response), spans = row
    text = as_text(tokenizer, prompt + response, [(len(prompt), len(prompt + response)), *spans])
    assert text == (
        "<|bos|><|system|>Be kind.<|user|>Why?<|assistant|>[[So.<|eos|>]]<|user|>Sure? Human: yes<|assistant|>"
        "[[Yes. <|eos|> really<|eos|>]]"
    )
    assert as_text(tokenizer, tokenizer.encode("a\nb"), [(0, 0)]) == "[[]]a\\nb"
    long = as_text(tokenizer, tokenizer.encode("Sure? " * 400), [(2000, 2001)])
    assert len(long) < LONGEST + 10 and " ... " in long
