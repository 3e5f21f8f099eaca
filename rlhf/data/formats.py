"""How rows become examples: one small function a format.

Each takes a row and the name of its source and gives the examples in it, none where a comparison is a draw. A row that
cannot be read raises ``BadRow`` with the column. Text is stripped at both ends.
"""

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rlhf.config import Format
from rlhf.data.dialogues import follow, ranked_list, spoken, turns_of
from rlhf.data.fields import not_a as _not
from rlhf.data.fields import object_of as _object
from rlhf.data.fields import rated
from rlhf.data.fields import text_of as _text
from rlhf.data.reader import Row
from rlhf.data.records import BadRow, Example, Turn

ANSWER_COLUMNS = ("completion", "response", "answer", "output")
"""Names of a demonstration beside `prompt`, in the order of preference."""

_MARK = re.compile(r"(?:\A|\n\n)(Human|Assistant):")
_ROLE = {"Human": "user", "Assistant": "assistant"}


def detect(columns: Iterable[str]) -> Format | None:
    """The format of rows with these columns, the most specific first; None: not known."""
    present = set(columns)
    return next((kind for kind, needed in COLUMNS.items() if needed <= present), None)


def completion(row: Row, source: str) -> list[Example]:
    """`prompt` with an answer under one of ``ANSWER_COLUMNS``, perhaps a rated one; without any, a prompt for PPO."""
    column = next((name for name in ANSWER_COLUMNS if name in row), None)
    if column is None:
        return [Example(_prompt(row), None, None, source)]
    return [rated(row, Example(_prompt(row), _answer(row, column), None, source))]


def ranked(row: Row, source: str) -> list[Example]:
    """`prompt`, `responses`: texts from best to worst, or objects with `text` and a `rank` (0 is best) or a `score`.

    Of those with the same rank or score only the first stands in the list: nobody said which of them is better.
    """
    found = row.get("responses")
    if not isinstance(found, list) or len(found) < 2:
        raise BadRow("responses", _not(found, "a list of several"))
    stood: dict[str, int] = {}
    if all(isinstance(each, dict) for each in found):
        within = [f"responses[{index}]." for index in range(len(found))]
        first: dict[float, int] = {}
        for index, place in enumerate(_places(found, within)):
            first.setdefault(place, index)
        order = [first[place] for place in sorted(first)]
        found = [_text(found[index], "text", within[index]) for index in order]
        stood = {text: index for text, index in reversed([*zip(found, order, strict=True)])}  # of equal texts the best counts
    texts = list(dict.fromkeys(_text({"response": each}, "response", "responses: ") for each in found))
    places = tuple(stood[text] for text in texts) if stood else ()
    return [ranked_list(_prompt(row), texts, source, places)] if len(texts) > 1 else []


def _places(responses: Sequence[Row], within: Sequence[str]) -> list[float]:
    """What each response is sorted by, the rank or else the score of all of them: lower is better."""
    column, sign = ("rank", 1) if all(each.get("rank") is not None for each in responses) else ("score", -1)
    places = []
    for response, where in zip(responses, within, strict=True):
        if response.get(column) is None:
            raise BadRow(f"{where}rank", "is missing, and so is a score")
        value = response[column]
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise BadRow(f"{where}{column}", _not(value, "a finite number"))
        places.append(sign * float(value))
    return places


def alpaca(row: Row, source: str) -> list[Example]:
    """`instruction`, `input` (may be empty), `output`; perhaps a `label` or a `rating`."""
    return [rated(row, Example(_instruction(row), _text(row, "output"), None, source))]


def pair(row: Row, source: str) -> list[Example]:
    """`prompt`, `chosen`, `rejected`. Answers that are whole dialogues, as messages, hold the prompt themselves."""
    if isinstance(row.get("chosen"), list) and len(row["chosen"]) > 1:
        return _with_common_turns(row, source)
    return [Example(_prompt(row), _answer(row, "chosen"), _answer(row, "rejected"), source)]


def alpaca_pair(row: Row, source: str) -> list[Example]:
    """`instruction`, `input` (may be empty), `chosen`, `rejected`; `output` is not read."""
    return [Example(_instruction(row), _text(row, "chosen"), _text(row, "rejected"), source)]


def transcripts(row: Row, source: str) -> list[Example]:
    """`chosen`, `rejected`: the same dialogue twice, with different last answers.

    As text with "Human:" and "Assistant:" (HH-RLHF), as lists of messages, or as plain texts with a common beginning.
    """
    if isinstance(row.get("chosen"), list):
        return _with_common_turns(row, source)
    if not any(is_transcript(_text(row, side)) for side in ("chosen", "rejected")):
        return _with_common_words(row, source)
    sides = {name: _dialogue(_text(row, name), name) for name in ("chosen", "rejected")}
    for name, turns in sides.items():
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise BadRow(name, "does not end with an answer of the assistant")
        if not turns[-1].text:
            raise BadRow(name, "its last answer is empty")
    chosen, rejected = sides["chosen"], sides["rejected"]
    if chosen[:-1] != rejected[:-1]:
        raise BadRow("rejected", "differs from chosen in more than the last answer")
    return [Example(chosen[:-1], chosen[-1].text, rejected[-1].text, source)]


def text(row: Row, source: str) -> list[Example]:
    """`text`: a document."""
    return [Example((), _text(row, "text"), None, source)]


def is_transcript(text: str) -> bool:
    """Whether turns are marked in it."""
    return _MARK.search(text) is not None


def _with_common_turns(row: Row, source: str) -> list[Example]:
    chosen, rejected = (turns_of(_listed(row, side), side, "role", "content") for side in ("chosen", "rejected"))
    if not chosen or chosen[:-1] != rejected[:-1]:
        raise BadRow("rejected", "differs from chosen in more than the last message")
    if len(chosen) < 2 or chosen[-2].role != "user" or (chosen[-1].role, rejected[-1].role) != ("assistant", "assistant"):
        raise BadRow("chosen", "does not end with an answer of the assistant to the user")
    follow(chosen, [f"chosen[{place}]" for place in range(len(chosen))])
    return [Example(spoken(chosen[:-1]), chosen[-1].text, rejected[-1].text, source)]


def _with_common_words(row: Row, source: str) -> list[Example]:
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    common = os.path.commonprefix([chosen, rejected])
    if common not in (chosen, rejected):
        common = common[: max(common.rfind(" "), common.rfind("\n")) + 1]
    if not common.strip():
        raise BadRow("rejected", "has no beginning in common with chosen that could be the prompt")
    turns = (Turn("user", common.strip()),)
    answers = [side[len(common) :].strip() for side in (chosen, rejected)]
    return [Example(turns, answers[0], answers[1], source)] if answers[0] else []


def continuation(row: Row, source: str) -> list[Example]:
    """`text`: its first sentence is the prompt, the rest of it the demonstration; a single sentence gives no example."""
    parts = re.split(r"(?<=[.!?])[\"')\]]*\s+", _text(row, "text"), maxsplit=1)
    return [Example((Turn("user", parts[0]),), parts[1], None, source)] if len(parts) == 2 else []


def judged(row: Row, source: str) -> list[Example]:
    """`prompt`, `baseline.output`, `responses`: each response with a `preference` (0 baseline better, 1 response, 0.5 draw).

    A losing answer may be empty: a model said nothing, and a judge saw it.
    """
    turns = (Turn("user", _text(row, "prompt")),)
    baseline = _text(_object(row.get("baseline"), "baseline"), "output", within="baseline.", may_be_empty=True)
    responses = row.get("responses")
    if not isinstance(responses, list):
        raise BadRow("responses", _not(responses, "a list"))
    examples = []
    for index, item in enumerate(responses):
        within = f"responses[{index}]."
        answer = _text(_object(item, within[:-1]), "output", within, may_be_empty=True)
        preference = item.get("preference")
        if not isinstance(preference, int | float) or not 0 <= preference <= 1:
            raise BadRow(f"{within}preference", _not(preference, "a number from 0 to 1"))
        chosen, rejected = (answer, baseline) if preference > 0.5 else (baseline, answer)
        if preference != 0.5 and chosen:
            examples.append(Example(turns, chosen, rejected, source))
    return examples


def pandalm(row: Row, source: str) -> list[Example]:
    """`instruction`, `input`, `response1`, `response2`, `annotator1`...: the majority's choice (1, 2; 0 is a draw).

    A losing answer may be empty: a model said nothing, and people saw it.
    """
    turns = _instruction(row)
    answers = {number: _text(row, f"response{number}", may_be_empty=True) for number in (1, 2)}
    columns = [name for name in sorted(row) if re.fullmatch(r"annotator\d+", name)]
    for name in columns:
        if row[name] not in (0, 1, 2):
            raise BadRow(name, _not(row[name], "0, 1 or 2"))
    winner, votes = Counter(row[name] for name in columns).most_common(1)[0] if columns else (0, 0)
    if winner == 0 or 2 * votes <= len(columns) or not answers[winner]:
        return []
    return [Example(turns, answers[winner], answers[3 - winner], source, places=(winner - 1, 2 - winner))]


READERS: dict[Format, Callable[[Row, str], list[Example]]] = {
    Format.judged: judged,
    Format.pandalm: pandalm,
    Format.ranked: ranked,
    Format.alpaca_pair: alpaca_pair,
    Format.pair: pair,
    Format.transcripts: transcripts,
    Format.alpaca: alpaca,
    Format.completion: completion,
    Format.text: text,
    Format.continuation: continuation,
}

COLUMNS: dict[Format, set[str]] = {
    Format.judged: {"prompt", "baseline", "responses"},
    Format.pandalm: {"instruction", "response1", "response2", "annotator1"},
    Format.ranked: {"prompt", "responses"},
    Format.alpaca_pair: {"instruction", "chosen", "rejected"},
    Format.pair: {"prompt", "chosen", "rejected"},
    Format.sharegpt: {"conversations"},
    Format.messages: {"messages"},
    Format.oasst: {"message_tree_id", "prompt"},
    Format.transcripts: {"chosen", "rejected"},
    Format.alpaca: {"instruction", "output"},
    Format.completion: {"prompt"},
    Format.text: {"text"},
}
"""Columns by which a format is recognised; the first that fits is taken."""


def _listed(row: Row, column: str) -> list[Any]:
    if not isinstance(row.get(column), list):
        raise BadRow(column, _not(row.get(column), "a list"))
    found: list[Any] = row[column]
    return found


def _instruction(row: Row) -> tuple[Turn, ...]:
    extra = "" if row.get("input") is None else _text(row, "input", may_be_empty=True)
    return (Turn("user", "\n\n".join(part for part in (_text(row, "instruction"), extra) if part)),)


def _prompt(row: Row) -> tuple[Turn, ...]:
    """`prompt`: text, the turns of a "Human: ... Assistant:" dialogue that waits for its answer, or a list of messages."""
    if isinstance(row.get("prompt"), list):
        said = turns_of(row["prompt"], "prompt", "role", "content")
        follow(said, [f"prompt[{place}]" for place in range(len(said))])
        if not said or said[-1].role != "user":
            raise BadRow("prompt", "does not end with a message of the user")
        return spoken(said)
    text = _text(row, "prompt")
    if not text.startswith("Human:"):
        return (Turn("user", text),)
    turns = _dialogue(text, "prompt")
    if turns[-1].role == "assistant":
        if turns[-1].text:
            raise BadRow("prompt", "ends with an answer of the assistant")
        turns = turns[:-1]
    return turns


def _answer(row: Row, column: str) -> str:
    """The answer, as text without the "Assistant:" that some data sets put before it, or as a list of one message."""
    if isinstance(row.get(column), list):
        said = turns_of(row[column], column, "role", "content")
        if [turn.role for turn in said] != ["assistant"] or not said[0].text:
            raise BadRow(column, "is not one message of the assistant")
        return said[0].text
    answer = _text(row, column).removeprefix("Assistant:").lstrip()
    if not answer:
        raise BadRow(column, "is empty")
    return answer


def _dialogue(text: str, column: str) -> tuple[Turn, ...]:
    """Turns of a "Human: ... Assistant: ..." text; only a last one of the assistant may be empty."""
    _, *parts = _MARK.split(text.strip())
    turns = tuple(Turn(_ROLE[mark], content.strip()) for mark, content in zip(parts[::2], parts[1::2], strict=True))
    if not turns or turns[0].role != "user" or not text.strip().startswith("Human:"):
        raise BadRow(column, 'does not begin with "Human:"')
    if any(first.role == second.role for first, second in itertools.pairwise(turns)):
        raise BadRow(column, "has two turns of the same speaker in a row")
    if not all(turn.text for turn in turns[:-1]) or not (turns[-1].text or turns[-1].role == "assistant"):
        raise BadRow(column, "has an empty turn")
    return turns
