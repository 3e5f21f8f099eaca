"""How rows of shapes that only a few public data sets have become examples: one small function a format.

As in ``formats``: a row and the name of its source give examples, none where there is nothing to learn from. The names
of columns are those after `data.sources.<name>.columns` has renamed them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from rlhf.config import Format
from rlhf.data.fields import not_a, object_of, text_of
from rlhf.data.reader import Row
from rlhf.data.records import BadRow, Example, Turn

NO_ANSWER = "The text does not say."
"""What is learnt where a question has a context that does not answer it (SQuAD 2)."""

LANGUAGES = {"de": "German", "en": "English", "fr": "French", "ru": "Russian", "zh": "Chinese"}
"""Names of the languages in translation pairs."""

_CITATION = re.compile(r"\s*\[\s*\d+(?:\s*,\s*\d+)*\s*\]")


def scored(row: Row, source: str) -> list[Example]:
    """`prompt`, `answer_0`, `answer_1`, `score_0`, `score_1`: the answer with the higher score is preferred."""
    return _compared(row, source, citations=False)


def webgpt(row: Row, source: str) -> list[Example]:
    """As ``scored``, with citation marks like `[1, 2]` taken out of the answers and the scores' difference as margin."""
    return _compared(row, source, citations=True)


def comparisons(row: Row, source: str) -> list[Example]:
    """`summaries` with a `text` each, `choice` (0 or 1), and the post under `prompt`, else within `info`."""
    found = row.get("summaries")
    if not isinstance(found, list) or len(found) != 2:
        raise BadRow("summaries", not_a(found, "a list of two"))
    choice = row.get("choice")
    if choice not in (0, 1):
        raise BadRow("choice", not_a(choice, "0 or 1"))
    within = [f"summaries[{place}]" for place in (0, 1)]
    texts = [text_of(object_of(each, place), "text", f"{place}.") for each, place in zip(found, within, strict=True)]
    return [Example((Turn("user", _post(row)),), texts[choice], texts[1 - choice], source, places=(choice, 1 - choice))]


def endings(row: Row, source: str) -> list[Example]:
    """`ctx`, `endings`, `label`: the place of the true ending, which is preferred to each other; no label, no example."""
    label, found = row.get("label"), row.get("endings")
    if not isinstance(found, list) or len(found) < 2:
        raise BadRow("endings", not_a(found, "a list of several"))
    if label in ("", None, -1):  # the labels of test splits are hidden
        return []
    if not str(label).isdigit() or int(label) >= len(found):
        raise BadRow("label", not_a(label, f"a place from 0 to {len(found) - 1}"))
    texts = [text_of({"ending": each}, "ending") for each in found]
    turns = (Turn("user", text_of(row, "ctx")),)
    return [Example(turns, texts[int(label)], text, source) for place, text in enumerate(texts) if place != int(label)]


def passages(row: Row, source: str) -> list[Example]:
    """`query`, `positive_passages`, `negative_passages`: the first of each; only a demonstration where none is negative."""
    turns = (Turn("user", text_of(row, "query")),)
    best = [_first_passage(row, column) for column in ("positive_passages", "negative_passages")]
    return [Example(turns, best[0], best[1], source)] if best[0] else []


def questions(row: Row, source: str) -> list[Example]:
    """`question`, `answers` and perhaps a `context`.

    Each of them may be text, a list of texts (of which the first that is not empty counts) or of objects with `text`; a
    list of questions goes with a list of as many answers. A question that its context does not answer gets ``NO_ANSWER``;
    one without context and answer gives no example.
    """
    asked = row.get("question")
    context = _first(row.get("context"), "context")
    if not isinstance(asked, list):
        return _question(text_of(row, "question"), row.get("answers"), context, source)
    answers = row.get("answers")
    if not isinstance(answers, list) or len(answers) != len(asked):
        raise BadRow("answers", not_a(answers, f"a list of {len(asked)}, one to a question"))
    return [
        example
        for one, answer in zip(asked, answers, strict=True)
        for example in _question(text_of({"question": one}, "question"), answer, context, source)
    ]


def choices(row: Row, source: str) -> list[Example]:
    """`question`, `options`, `answer`, all texts: the options stand in the prompt, quotes around the answer are taken off."""
    prompt = f"{text_of(row, 'question')}\n\n{text_of(row, 'options')}"
    answer = text_of(row, "answer").strip('"').strip()
    if not answer:
        raise BadRow("answer", "is empty")
    return [Example((Turn("user", prompt),), answer, None, source)]


def summary(row: Row, source: str) -> list[Example]:
    """`document` and `summary`, texts or lists of texts: the sentences of a document, alternative summaries."""
    document = row.get("document")
    text = " ".join(str(part) for part in document).strip() if isinstance(document, list) else text_of(row, "document")
    short = _first(row.get("summary"), "summary")
    if not text or not short:
        raise BadRow("document" if not text else "summary", "is empty")
    return [Example((Turn("user", f"Summarize the following text.\n\n{text}"),), short, None, source)]


def translation(row: Row, source: str) -> list[Example]:
    """`translation`: the same text in two languages, by their codes; half of the rows, by their length, go backwards."""
    pair = object_of(row.get("translation"), "translation")
    if len(pair) != 2 or not set(pair) <= set(LANGUAGES):
        raise BadRow("translation", not_a(list(pair), f"two of {', '.join(LANGUAGES)}"))
    texts = {code: text_of(pair, code, "translation.") for code in pair}
    given, wanted = sorted(pair, reverse=sum(map(len, texts.values())) % 2 == 1)
    prompt = f"Translate from {LANGUAGES[given]} to {LANGUAGES[wanted]}.\n\n{texts[given]}"
    return [Example((Turn("user", prompt),), texts[wanted], None, source)]


def reasons(row: Row, source: str) -> list[Example]:
    """`context`, `safety_annotations`, `safety_annotation_reasons` (ProsocialDialog): why the remark calls for care."""
    labels, given = row.get("safety_annotations"), row.get("safety_annotation_reasons")
    if not isinstance(labels, list) or not isinstance(given, list) or len(labels) != len(given):
        raise BadRow("safety_annotation_reasons", "are not as many as the annotations")
    remark = text_of(row, "context")
    texts = [text_of({"reason": reason}, "reason", "safety_annotation_", may_be_empty=True) for reason in given]
    return [
        Example((Turn("user", f'Why does this remark call for the label "{label}"?\n\n{remark}'),), reason, None, source)
        for label, reason in zip(labels, texts, strict=True)
        if reason
    ]


READERS: dict[Format, Callable[[Row, str], list[Example]]] = {
    Format.scored: scored,
    Format.webgpt: webgpt,
    Format.comparisons: comparisons,
    Format.endings: endings,
    Format.passages: passages,
    Format.questions: questions,
    Format.choices: choices,
    Format.summary: summary,
    Format.translation: translation,
    Format.reasons: reasons,
}


def _compared(row: Row, source: str, citations: bool) -> list[Example]:
    turns = (Turn("user", text_of(row, "prompt")),)
    texts = [text_of(row, column, may_be_empty=True) for column in ("answer_0", "answer_1")]
    first, second = (_number(row, column) for column in ("score_0", "score_1"))
    if citations:
        texts = [_CITATION.sub("", text).strip() for text in texts]
    if first == second or not all(texts):
        return []
    places = (0, 1) if first > second else (1, 0)
    better, worse = (texts[place] for place in places)
    return [Example(turns, better, worse, source, margin=abs(first - second) if citations else None, places=places)]


def _number(row: Row, column: str) -> float:
    value = row.get(column)
    if not isinstance(value, int | float):
        raise BadRow(column, not_a(value, "a number"))
    return value


def _post(row: Row) -> str:
    """The text to be summarised, as the prompt of Stiennon et al. 2020."""
    if "prompt" in row:
        return text_of(row, "prompt")
    info = object_of(row.get("info"), "info")
    if info.get("article"):
        return f"Article:\n{text_of(info, 'article', 'info.')}\n\nTL;DR:"
    subreddit = [f"SUBREDDIT: r/{info['subreddit']}"] if info.get("subreddit") else []
    title = [f"TITLE: {info['title']}"] if info.get("title") else []
    return "\n\n".join([*subreddit, *title, f"POST: {text_of(info, 'post', 'info.')}", "TL;DR:"])


def _first_passage(row: Row, column: str) -> str | None:
    found = row.get(column)
    if not isinstance(found, list):
        raise BadRow(column, not_a(found, "a list"))
    return text_of(object_of(found[0], f"{column}[0]"), "text", f"{column}[0].") if found else None


def _question(question: str, answers: Any, context: str, source: str) -> list[Example]:
    answer = _first(answers, "answers")
    if not answer and not context:
        return []
    prompt = f"{context}\n\n{question}" if context else question
    return [Example((Turn("user", prompt),), answer or NO_ANSWER, None, source)]


def _first(value: Any, column: str) -> str:
    """The first text in a text, a list of texts or of objects with `text`, or an object with such a list; else ""."""
    return next(_texts(value, column), "")


def _texts(value: Any, column: str) -> Iterator[str]:
    if isinstance(value, dict):
        value = value.get("text")
    if isinstance(value, list):
        for each in value:
            yield from _texts(each, column)
    elif value is not None:
        text = text_of({column: value}, column, may_be_empty=True)
        if text:
            yield text
