"""The tokenizer of a run: loaded with the model, or trained on the run's own text."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from rlhf.config import ModelConfig, Template
from rlhf.fault import Fault
from rlhf.models.packaged import local_source
from rlhf.models.template import ROLE_TOKENS, set_template

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"


def load_tokenizer(model: ModelConfig, texts: Iterable[str], parent: Path | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of the artifact ``parent``, else of ``model``: from its path, else trained on ``texts``.

    Pad is never the end token.

    Raises:
        Fault: the path cannot be read, or a template is asked for that the tokenizer lacks.
    """
    if parent is None and model.path is None:
        if model.arch is None:
            raise Fault(f"model.arch: {model.name} has neither a path nor sizes; set model.path or model.arch")
        return train_tokenizer(texts, model.arch.vocab_size, model.template)
    named = f"model.path={model.path}" if parent is None else f"parents: {parent}"
    source, revision = (str(parent), None) if parent is not None else local_source(str(model.path), model.revision)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise Fault(_unreadable(named, error)) from error
    if tokenizer.eos_token is None:
        raise Fault(f"{named}: its tokenizer has no end-of-text token, so no response could ever end")
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.add_special_tokens({"pad_token": PAD})  # pad == eos would teach the model never to stop, or never learn it
    if parent is not None and tokenizer.chat_template is not None:
        return tokenizer  # a chain speaks the language of its first stage
    if model.template is Template.roles:
        tokenizer.add_special_tokens({"additional_special_tokens": list(ROLE_TOKENS.values())})
    set_template(tokenizer, model.template)
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, template: Template) -> PreTrainedTokenizerBase:
    """A byte-level BPE of at most ``vocab_size`` tokens (any text can be encoded), with role tokens.

    Raises:
        Fault: ``vocab_size`` is too small for the 256 bytes and the special tokens.
    """
    special = [PAD, BOS, EOS, *ROLE_TOKENS.values()]
    smallest = 256 + len(special)
    if vocab_size < smallest:
        raise Fault(f"model.arch.vocab_size={vocab_size}: a byte-level tokenizer needs at least {smallest}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(ROLE_TOKENS.values()),
        clean_up_tokenization_spaces=False,
    )
    set_template(wrapped, template)
    return wrapped


def _unreadable(what: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0]
    return f"{what}: holds no tokenizer that can be loaded ({first}); give a model's folder, or a hub id this machine can reach"


def same_tokens(policy: PreTrainedTokenizerBase, reward_model: PreTrainedTokenizerBase) -> bool:
    """Whether a reward model reads the very tokens the policy writes: vocabulary, end token and template are alike."""
    return (
        policy.get_vocab() == reward_model.get_vocab()
        and policy.eos_token_id == reward_model.eos_token_id
        and policy.chat_template == reward_model.chat_template
    )
