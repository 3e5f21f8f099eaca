"""Tokenizers that are trained or loaded, and what every stage relies on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf.config import Family, ModelConfig, Template
from rlhf.fault import Fault
from rlhf.models.template import JINJA, ROLE_TOKENS
from rlhf.models.tokenizer import BOS, EOS, PAD, load_tokenizer, same_tokens, train_tokenizer

SPECIAL = [PAD, BOS, EOS, *ROLE_TOKENS.values()]
TRAINED = train_tokenizer(["What is the capital of France?", "It is Paris."] * 3, 320, Template.roles)


@settings(max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_it_went_in(text: str) -> None:
    ids = TRAINED.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert TRAINED.decode(ids) == text
    assert not set(ids) & set(TRAINED.all_special_ids)


def test_every_special_token_is_one_id_and_none_is_another() -> None:
    ids = [TRAINED.encode(token, add_special_tokens=False) for token in SPECIAL]
    assert all(len(each) == 1 for each in ids)
    assert len({each[0] for each in ids}) == len(SPECIAL)
    assert TRAINED.pad_token_id != TRAINED.eos_token_id
    assert TRAINED.decode(ids[2], skip_special_tokens=True) == ""


def test_the_vocabulary_is_learnt_and_no_larger_than_asked() -> None:
    assert 256 + len(SPECIAL) < len(TRAINED) <= 320
    assert len(TRAINED.encode("What is the capital", add_special_tokens=False)) < len("What is the capital")
    with pytest.raises(Fault, match=r"model\.arch\.vocab_size=261.*262"):
        train_tokenizer(["text"], 261, Template.roles)
    assert len(train_tokenizer(["text"], 262, Template.roles)) == 262


def test_training_is_the_same_every_time() -> None:
    again = train_tokenizer(["What is the capital of France?", "It is Paris."] * 3, 320, Template.roles)
    assert again.get_vocab() == TRAINED.get_vocab()
    assert same_tokens(TRAINED, again)


def test_a_saved_tokenizer_is_the_same_with_its_template(tmp_path: Path, model_config: Callable[..., ModelConfig]) -> None:
    TRAINED.save_pretrained(tmp_path)
    for again in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(model_config(Family.llama), (), tmp_path)):
        assert same_tokens(TRAINED, again)
        assert (again.pad_token, again.bos_token, again.eos_token) == (PAD, BOS, EOS)
        assert again.encode("<|user|>hi<|eos|>", add_special_tokens=False)[::3] == [
            TRAINED.convert_tokens_to_ids("<|user|>"),
            TRAINED.eos_token_id,
        ]


def test_other_tokens_or_another_template_are_not_the_same() -> None:
    assert not same_tokens(TRAINED, train_tokenizer(["something else entirely"] * 3, 320, Template.roles))
    other_template = train_tokenizer(["What is the capital of France?", "It is Paris."] * 3, 320, Template.dialogue)
    assert TRAINED.get_vocab() == other_template.get_vocab() and not same_tokens(TRAINED, other_template)


def save_published(folder: Path, **special: str) -> None:
    """A byte tokenizer like those on the hub, with only the special tokens named."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    published = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    published.pre_tokenizer, published.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=published, **special).save_pretrained(folder)


@pytest.mark.parametrize("special", [{"eos_token": "</s>"}, {"eos_token": "</s>", "pad_token": "</s>"}])
def test_pad_is_never_the_end_token(special: dict[str, str], tmp_path: Path, model_config: Callable[..., ModelConfig]) -> None:
    save_published(tmp_path, **special)
    tokenizer = load_tokenizer(replace(model_config(Family.llama, path=str(tmp_path)), template=Template.dialogue), ())
    assert tokenizer.eos_token == "</s>" and tokenizer.pad_token == PAD
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.chat_template == JINJA[Template.dialogue]


def test_a_pad_token_of_its_own_is_kept(tmp_path: Path, model_config: Callable[..., ModelConfig]) -> None:
    save_published(tmp_path, eos_token="</s>", pad_token="<pad>")
    tokenizer = load_tokenizer(replace(model_config(Family.llama, path=str(tmp_path)), template=Template.dialogue), ())
    assert tokenizer.pad_token == "<pad>" and PAD not in tokenizer.get_vocab()


def test_a_tokenizer_that_cannot_be_used_is_refused(tmp_path: Path, model_config: Callable[..., ModelConfig]) -> None:
    save_published(tmp_path / "endless", pad_token="<pad>")
    with pytest.raises(Fault, match="no end-of-text token"):
        load_tokenizer(model_config(Family.llama, path=str(tmp_path / "endless")), ())
    save_published(tmp_path / "plain", eos_token="</s>")
    with pytest.raises(Fault, match=r"model\.template=tokenizer"):
        load_tokenizer(replace(model_config(Family.llama, path=str(tmp_path / "plain")), template=Template.tokenizer), ())
    with pytest.raises(Fault, match=r"model\.arch"):
        load_tokenizer(replace(model_config(Family.llama), arch=None), ())
