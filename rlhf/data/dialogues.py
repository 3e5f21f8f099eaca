"""How dialogues of several turns become examples: each answer is one, with what came before it as its prompt.

As in ``formats``: a row and the name of its source give examples. A dialogue that does not alternate between user and
assistant, or has an empty turn, gives none: public sets hold many of them.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rlhf.config import Format
from rlhf.data.fields import not_a, object_of, text_of, verdict_of
from rlhf.data.reader import Row
from rlhf.data.records import BadRow, Example, Turn

SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
"""Who speaks in ShareGPT's rows."""

_MARKS = {"<human>": "<bot>", "Human": "Assistant", "User": "Assistant", "USER": "ASSISTANT"}
_ANY_USER = re.compile(rf"(?:\A|(?<=\s))({'|'.join(_MARKS)}):")


def messages(row: Row, source: str) -> list[Example]:
    """`messages` with `role` and `content`; with a `label` (true or false) only the last answer counts, and is rated by it."""
    turns = turns_of(_list(row, "messages"), "messages", "role", "content")
    found = _answers(*_apart(turns), source)
    if "label" not in row:
        return found
    if (rating := verdict_of(row["label"])) is None:
        raise BadRow("label", not_a(row["label"], "true or false"))
    return [replace(each, rating=rating) for each in found[-1:]]


def sharegpt(row: Row, source: str) -> list[Example]:
    """`conversations`: turns with `from` (``SPEAKERS``) and `value`; turns of one speaker in a row are joined.

    With `chosen` and `rejected`, a turn each, these are the answers to the whole of it.
    """
    turns = turns_of(_list(row, "conversations"), "conversations", "from", "value")
    system, said = _apart(turns)
    joined = [
        Turn(role, "\n".join(turn.text for turn in together))
        for role, together in itertools.groupby(said, key=lambda turn: turn.role)
    ]
    if "chosen" not in row:
        return _answers(system, joined, source)
    ((chosen,), (rejected,)) = (turns_of([row.get(side)], side, "from", "value") for side in ("chosen", "rejected"))
    if not joined or joined[-1].role != "user" or not chosen.text:
        return []
    opening = (Turn("system", system),) if system else ()
    return [Example((*opening, *joined), chosen.text, rejected.text, source)]


def turns_of(said: Sequence[Any], column: str, role: str, content: str) -> list[Turn]:
    """Messages as turns, empty ones included.

    Args:
        role: name of who speaks (``SPEAKERS``) in a message, and ``content`` of what is said.
    """
    turns = []
    for place, each in enumerate(said):
        within = f"{column}[{place}]."
        speaker = object_of(each, within[:-1]).get(role)
        if speaker not in SPEAKERS:
            raise BadRow(f"{within}{role}", not_a(speaker, f"one of {', '.join(SPEAKERS)}"))
        text = {content: each.get(content) or ""}  # nothing at all stands for an empty turn
        turns.append(Turn(SPEAKERS[speaker], text_of(text, content, within, may_be_empty=True)))
    return turns


def marked(row: Row, source: str) -> list[Example]:
    """`text`: a dialogue with marks like `USER:` or `<bot>:`; or only its last answer, where that is under `response`.

    What stands before the first mark is the system's.
    """
    text = text_of(row, "text", may_be_empty=True)
    if (first := _ANY_USER.search(text)) is None:
        return []
    user = first[1]
    opening, *parts = re.split(rf"(?:\A|(?<=\s))({user}|{_MARKS[user]}):", text)
    turns = [
        Turn("user" if mark == user else "assistant", part.strip()) for mark, part in zip(parts[::2], parts[1::2], strict=True)
    ]
    if "response" not in row:
        return _answers(opening.strip(), turns, source)
    if turns[-1] == Turn("assistant", ""):
        turns.pop()
    response = Turn("assistant", text_of(row, "response", may_be_empty=True))
    return _answers(opening.strip(), [*turns, response], source)[-1:]


def rounds(row: Row, source: str) -> list[Example]:
    """`rounds`, each with `input` and `output`, or one such pair in the row itself; perhaps a `system` message."""
    turns = []
    for place, each in enumerate(_list(row, "rounds") if "rounds" in row else [row]):
        for role, column in (("user", "input"), ("assistant", "output")):
            within = f"rounds[{place}]." if "rounds" in row else ""
            turns.append(Turn(role, text_of(object_of(each, within[:-1]), column, within, may_be_empty=True)))
    system = "" if row.get("system") is None else text_of(row, "system", may_be_empty=True)
    return _answers(system, turns, source)


def scenes(row: Row, source: str) -> list[Example]:
    """`narrative`, `dialogue`, `speakers` (SODA): the second of two speakers is the assistant."""
    lines, speakers = _list(row, "dialogue"), _list(row, "speakers")
    if len(lines) != len(speakers):
        raise BadRow("speakers", f"are {len(speakers)}, not as many as the {len(lines)} lines of dialogue")
    if len(set(speakers)) != 2:
        return []
    turns = [
        Turn("user" if speaker == speakers[0] else "assistant", text_of({"line": line}, "line", "dialogue.", may_be_empty=True))
        for line, speaker in zip(lines, speakers, strict=True)
    ]
    return _answers(f"{text_of(row, 'narrative')} You are {speakers[1]}.", turns, source)


def oasst(row: Row, source: str) -> list[Example]:
    """A tree of Open-Assistant: `prompt` with `replies`, to which there are replies again; deleted messages are passed over.

    Ranked replies to a prompt are a ranked list; of others each is a demonstration; a prompt without replies is one for PPO.
    A tree that was not finished (`tree_state`) gives no example.
    """
    if row.get("tree_state", "ready_for_export") != "ready_for_export":
        return []
    return list(_below(object_of(row.get("prompt"), "prompt"), (), "prompt.", source))


READERS: dict[Format, Callable[[Row, str], list[Example]]] = {
    Format.messages: messages,
    Format.sharegpt: sharegpt,
    Format.marked: marked,
    Format.rounds: rounds,
    Format.scenes: scenes,
    Format.oasst: oasst,
}


def _below(node: Row, before: tuple[Turn, ...], within: str, source: str) -> Iterator[Example]:
    """The examples of a prompter's message and of all that follows from it."""
    if node.get("deleted"):
        return
    turns = (*before, Turn("user", text_of(node, "text", within)))
    replies = []
    for place, each in enumerate(node.get("replies") or []):
        reply, inner = object_of(each, f"{within}replies[{place}]"), f"{within}replies[{place}]."
        if not reply.get("deleted"):
            replies.append((reply, text_of(reply, "text", inner), inner))
    ranked = [
        text for reply, text, _ in sorted(replies, key=lambda each: each[0].get("rank") or 0) if reply.get("rank") is not None
    ]
    if len(ranked) > 1:
        yield ranked_list(turns, ranked, source)
    else:
        yield from (Example(turns, text, None, source) for _, text, _ in replies)
    if not replies:
        yield Example(turns, None, None, source)
    for reply, text, inner in replies:
        for place, following in enumerate(reply.get("replies") or []):
            deeper = f"{inner}replies[{place}]"
            yield from _below(object_of(following, deeper), (*turns, Turn("assistant", text)), f"{deeper}.", source)


def ranked_list(turns: tuple[Turn, ...], answers: Sequence[str], source: str) -> Example:
    """Answers to one prompt, best first, at least two."""
    return Example(turns, answers[0], answers[-1], source, ranking=tuple(answers) if len(answers) > 2 else ())


def _apart(turns: list[Turn]) -> tuple[str, list[Turn]]:
    """What the system says at the beginning, and the rest."""
    return (turns[0].text, turns[1:]) if turns and turns[0].role == "system" else ("", turns)


def _list(row: Row, column: str) -> list[Any]:
    found = row.get(column)
    if not isinstance(found, list):
        raise BadRow(column, not_a(found, "a list"))
    return found


def _answers(system: str, turns: Sequence[Turn], source: str) -> list[Example]:
    """An example for each answer; a last turn that nobody answered is left out."""
    heard = list(turns[:-1] if turns and turns[-1].role == "user" else turns)
    alternate = all(turn.role == ("user", "assistant")[place % 2] and turn.text for place, turn in enumerate(heard))
    if not alternate or len(heard) % 2:
        return []
    opening = (Turn("system", system),) if system else ()
    return [Example((*opening, *heard[:place]), heard[place].text, None, source) for place in range(1, len(heard), 2)]
