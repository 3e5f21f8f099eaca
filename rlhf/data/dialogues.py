"""How dialogues of several turns become examples: each answer is one, with what came before it as its prompt.

As in ``formats``: a row and the name of its source give examples. A dialogue in which user and assistant do not take turns,
or one of them says nothing, raises ``BadDialogue``.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rlhf.config import Format
from rlhf.data.fields import not_a, object_of, rated, text_of
from rlhf.data.reader import Row
from rlhf.data.records import BadDialogue, BadRow, Example, Turn

SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "assistant"),
    "system": "system",
}
"""Who speaks in ShareGPT's rows."""

_MARKS = {"<human>": "<bot>", "Human": "Assistant", "User": "Assistant", "USER": "ASSISTANT"}
_ANY_USER = re.compile(rf"(?:\A|(?<=\s))({'|'.join(_MARKS)}):")


def messages(row: Row, source: str) -> list[Example]:
    """`messages` with `role` and `content`; with a `label` or `rating` only the last answer counts, and is rated by it."""
    turns = turns_of(_dialogue(row, "messages"), "messages", "role", "content")
    return _rated(row, _answers(turns, _places("messages", turns), source))


def sharegpt(row: Row, source: str) -> list[Example]:
    """`conversations`: turns with `from` (``SPEAKERS``) and `value`, or with `role` and `content`.

    Turns of one speaker in a row are joined. With `chosen` and `rejected`, a turn each, these are the answers to the whole
    of it; with a `label` or `rating` it is read as ``messages`` are.
    """
    turns = turns_of(_dialogue(row, "conversations"), "conversations", *_keys(row["conversations"]))
    joined, places = [], []
    placed = zip(turns, _places("conversations", turns), strict=True)
    for role, together in itertools.groupby(placed, lambda pair: pair[0].role):
        said, where = zip(*together, strict=True)
        joined.append(Turn(role, "\n".join(turn.text for turn in said)))
        places.append(where[0])
    if "chosen" not in row:
        return _rated(row, _answers(joined, places, source))
    follow(joined, places)
    ((chosen,), (rejected,)) = (turns_of([row.get(side)], side, *_keys([row.get(side)])) for side in ("chosen", "rejected"))
    if not joined or joined[-1].role != "user":
        raise BadDialogue("conversations", "does not end with a turn of the user, to which chosen and rejected are answers")
    if not chosen.text:
        raise BadDialogue("chosen", "is empty")
    return [Example(spoken(joined), chosen.text, rejected.text, source)]


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
        raise BadDialogue("text", f"has none of the marks {', '.join(f'{mark}:' for mark in _MARKS)}")
    user = first[1]
    opening, *parts = re.split(rf"(?:\A|(?<=\s))({user}|{_MARKS[user]}):", text)
    turns = [Turn("system", opening.strip())] if opening.strip() else []
    for mark, part in zip(parts[::2], parts[1::2], strict=True):
        turns.append(Turn("user" if mark == user else "assistant", part.strip()))
    if "response" not in row:
        return _answers(turns, ["text"] * len(turns), source)
    if turns[-1] == Turn("assistant", ""):
        turns.pop()
    response = Turn("assistant", text_of(row, "response", may_be_empty=True))
    return _answers([*turns, response], [*["text"] * len(turns), "response"], source)[-1:]


def rounds(row: Row, source: str) -> list[Example]:
    """`rounds`, each with `input` and `output`, or one such pair in the row itself."""
    turns, places = [], []
    for place, each in enumerate(_list(row, "rounds") if "rounds" in row else [row]):
        for role, column in (("user", "input"), ("assistant", "output")):
            within = f"rounds[{place}]." if "rounds" in row else ""
            turns.append(Turn(role, text_of(object_of(each, within[:-1]), column, within, may_be_empty=True)))
            places.append(within + column)
    return _answers(turns, places, source)


def scenes(row: Row, source: str) -> list[Example]:
    """`narrative`, `dialogue`, `speakers` (SODA): the second of two speakers is the assistant."""
    lines, speakers = _list(row, "dialogue"), _list(row, "speakers")
    if len(lines) != len(speakers):
        raise BadRow("speakers", f"are {len(speakers)}, not as many as the {len(lines)} lines of dialogue")
    if len(set(speakers)) != 2:
        return []
    said = [
        Turn("user" if speaker == speakers[0] else "assistant", text_of({"line": line}, "line", "dialogue.", may_be_empty=True))
        for line, speaker in zip(lines, speakers, strict=True)
    ]
    scene = Turn("system", f"{text_of(row, 'narrative')} You are {speakers[1]}.")
    return _answers([scene, *said], ["narrative", *_places("dialogue", said)], source)


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


def ranked_list(turns: tuple[Turn, ...], answers: Sequence[str], source: str, places: tuple[int, ...] = ()) -> Example:
    """Answers to one prompt, best first, at least two; ``places`` where each stood, if anybody knows."""
    ranking = tuple(answers) if len(answers) > 2 else ()
    return Example(turns, answers[0], answers[-1], source, ranking=ranking, places=places)


def follow(turns: Sequence[Turn], places: Sequence[str]) -> None:
    """Raise ``BadDialogue`` with its place for the first turn that is empty or not the turn of who speaks.

    The system may open a dialogue, even with nothing; then user and assistant take turns, the user first.
    """
    before = ""
    for turn, place in zip(turns, places, strict=True):
        if turn.role == "system" and before:
            raise BadDialogue(place, "is the system's, which can only open a dialogue")
        if turn.role == "assistant" and before in ("", "system"):
            raise BadDialogue(place, "is the assistant's, and nobody has asked anything")
        if turn.role == before:
            raise BadDialogue(place, f"is the {turn.role}'s, as the one before it")
        if not turn.text and turn.role != "system":
            raise BadDialogue(place, "is empty")
        before = turn.role


def spoken(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """``turns`` without that of a system that says nothing."""
    return tuple(turn for turn in turns if turn.text)


def _places(column: str, turns: Sequence[Turn]) -> list[str]:
    return [f"{column}[{place}]" for place in range(len(turns))]


def _keys(said: Sequence[Any]) -> tuple[str, str]:
    """What ShareGPT's turns call the speaker and what is said: some files have the names of `messages`."""
    other = any(isinstance(each, dict) and "from" not in each and "role" in each for each in said)
    return ("role", "content") if other else ("from", "value")


def _list(row: Row, column: str) -> list[Any]:
    found = row.get(column)
    if not isinstance(found, list):
        raise BadRow(column, not_a(found, "a list"))
    return found


def _dialogue(row: Row, column: str) -> list[Any]:
    if not (found := _list(row, column)):
        raise BadDialogue(column, "is empty")
    return found


def _rated(row: Row, answers: list[Example]) -> list[Example]:
    """All answers; or only the last one with its rating, where the row has a `label` or a `rating`."""
    return [rated(row, each) for each in answers[-1:]] if {"label", "rating"} & row.keys() else answers


def _answers(turns: Sequence[Turn], places: Sequence[str], source: str) -> list[Example]:
    """An example for each answer; a last turn that nobody answered is left out."""
    if turns and turns[-1] == Turn("user", ""):
        turns, places = turns[:-1], places[:-1]
    follow(turns, places)
    answers = [place for place, turn in enumerate(turns) if turn.role == "assistant"]
    if not answers:
        raise BadDialogue(places[-1] if places else "row", "is the last turn, and nobody answers it")
    return [Example(spoken(turns[:place]), turns[place].text, None, source) for place in answers]
