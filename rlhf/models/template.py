"""How turns become text, once for all stages: SFT, reward model and PPO see the same prompt and the same end marker.

A chat template here is a Jinja text stored in the tokenizer, so that artifacts carry it and plain transformers renders
the same prompt. A prompt ends where the response begins; the response is tokenised on its own and closed by one end
token, in training as in sampling, so that no token ever spans the border. Only the template writes special tokens: a
user's text that spells one is read as plain characters.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

from rlhf.config import Template
from rlhf.data.records import Turn
from rlhf.fault import Fault

ROLE_TOKENS = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}

_ROLES = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_DIALOGUE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '\n\nHuman: ' + message['content'] }}"
    "{% else %}{{ '\n\nAssistant: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
"""The line ends stand inside of expressions, for transformers renders without the first line end behind a `%}`."""

_PLAIN = (
    "{{ bos_token }}{% for message in messages %}{% if not loop.first %}{{ ' ' }}{% endif %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)
"""A text that is continued."""

JINJA = {Template.roles: _ROLES, Template.dialogue: _DIALOGUE, Template.plain: _PLAIN}


def set_template(tokenizer: PreTrainedTokenizerBase, template: Template) -> None:
    """Store the chosen template in ``tokenizer``.

    Raises:
        Fault: `model.template=tokenizer`, but the tokenizer has none.
    """
    if template is not Template.tokenizer:
        tokenizer.chat_template = JINJA[template]
    elif not tokenizer.chat_template:
        raise Fault("model.template=tokenizer: this tokenizer has no chat template; use model.template=dialogue")


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, turns: tuple[Turn, ...], limit: int) -> list[int]:
    """Token ids of the turns up to where the response begins; the oldest tokens go where they exceed ``limit``.

    What is cut is the front behind a leading begin-of-text token, so that the question and the role marks at the end stay.
    """
    return kept_end(list(_rendered_tokens(tokenizer, turns, str(tokenizer.chat_template))), limit, tokenizer.bos_token_id)


def kept_end(ids: list[int], limit: int, bos: int | None) -> list[int]:
    """The last ``limit`` of a prompt's token ids, or one less behind the begin token ``bos`` that they begin with."""
    if len(ids) <= limit:
        return ids
    return ids[:1] + ids[len(ids) - limit + 1 :] if ids[0] == bos else ids[len(ids) - limit :]


def answer_spans(tokenizer: PreTrainedTokenizerBase, turns: tuple[Turn, ...]) -> tuple[int, dict[int, tuple[int, int]]]:
    """How many token ids the uncut prompt of ``turns`` has, and where the assistant's turns stand in them.

    By the turn's place in ``turns``: from the first token of the answer up to and with its end token. Left out are answers
    that the template renders otherwise once the conversation goes on, or does not close with an end token.
    """
    template, end = str(tokenizer.chat_template), tokenizer.eos_token_id
    whole = _rendered_tokens(tokenizer, turns, template)
    spans = {}
    for place, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        before = _rendered_tokens(tokenizer, turns[:place], template)
        if whole[: len(before)] != before or end not in whole[len(before) :]:
            continue
        stop = whole.index(end, len(before))
        if response_text(tokenizer, list(whole[len(before) : stop])).split() == turn.text.split():
            spans[place] = (len(before), stop + 1)
    return len(whole), spans


def response_tokens(tokenizer: PreTrainedTokenizerBase, responses: Sequence[str]) -> list[list[int]]:
    """Token ids of each response and its one end token."""
    lead = _lead(tokenizer)
    encoded = tokenizer([lead + response for response in responses], add_special_tokens=False, split_special_tokens=True)
    return [[*ids, tokenizer.eos_token_id] for ids in encoded["input_ids"]]


def document_tokens(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str]) -> list[list[int]]:
    """Token ids of each document and its one end token, begun by the begin token where there is one that is no end token."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    begin = [] if bos in (None, eos) else [bos]
    encoded = tokenizer(list(documents), add_special_tokens=False, split_special_tokens=True)
    return [[*begin, *ids, eos] for ids in encoded["input_ids"]]


def response_text(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of sampled response tokens, without end token, padding and the leading space."""
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _lead(tokenizer: PreTrainedTokenizerBase) -> str:
    """What stands between the end of the prompt and the first word: `Assistant:` wants a space, a role token nothing.

    Some tokenizers (Llama 2's) set a space before any text by themselves.
    """
    if tokenizer.chat_template not in (JINJA[Template.dialogue], JINJA[Template.plain]):
        return ""
    return "" if tokenizer.tokenize("a")[0].startswith("\N{LOWER ONE EIGHTH BLOCK}") else " "


@lru_cache(maxsize=2**14)  # the same prompt comes with many answers
def _rendered_tokens(tokenizer: PreTrainedTokenizerBase, turns: tuple[Turn, ...], template: str) -> tuple[int, ...]:
    """Token ids of the rendered turns, with special tokens where the template put them and nowhere else.

    ``template`` is the tokenizer's own; it is named so that a changed one is another entry of the cache.
    """
    special = _special_tokens(tokenizer, len(tokenizer))
    spelled = any(special.search(turn.text) for turn in turns)
    messages = [{"role": turn.role, "content": _broken_up(special, turn.text) if spelled else turn.text} for turn in turns]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if not spelled:
        return tuple(tokenizer.encode(text, add_special_tokens=False))
    ids: list[int] = []
    for position, piece in enumerate(special.split(text)):
        if position % 2:
            ids.append(tokenizer.get_vocab()[piece])
        elif piece:
            ids += tokenizer.encode(piece.replace(_BREAK, ""), add_special_tokens=False, split_special_tokens=True)
    return tuple(ids)


_BREAK = "\ufdd0"
"""A Unicode noncharacter: put inside a spelled special token while the template is rendered, and taken out again."""


def _broken_up(special: re.Pattern[str], text: str) -> str:
    return re.sub(f"(?={special.pattern})(?s:(?P<first>.))", rf"\g<first>{_BREAK}", text)


@lru_cache(maxsize=8)
def _special_tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> re.Pattern[str]:
    """Matches, in one group, whatever ``tokenizer`` reads as a special token. ``size`` tells it from before more were added."""
    spellings = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    longest_first = sorted(spellings, key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")" if spellings else "((?!))")
