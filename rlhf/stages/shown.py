"""Training rows as a person reads them before the first round: special tokens visible, what is learnt in brackets."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rlhf.data.corpus import Corpus
from rlhf.stages.batches import Span
from rlhf.visible import visible

COUNT = 2
"""Rows that are shown."""

LONGEST = 400
"""Characters of a row; of a longer one the middle is left out."""

Marked = tuple[list[int], list[Span]]
"""Token ids and what is learnt, or judged, of them; an empty part is where an answer will be sampled."""


def examples_shown(
    tokenizer: PreTrainedTokenizerBase, corpus: Corpus, stage: str, seed: int, rows: Sequence[list[Marked] | None]
) -> list[str]:
    """A line for each sequence of the first rows that ``stage`` trains on; ``rows`` as in ``epoch_batches``."""
    first = [row for index in corpus.order(stage, 0, seed)[: 50 * COUNT] if (row := rows[index]) is not None][:COUNT]
    return [f"row {number}: {as_text(tokenizer, *each)}" for number, row in enumerate(first, 1) for each in row]


def as_text(tokenizer: PreTrainedTokenizerBase, ids: list[int], spans: Sequence[Span]) -> str:
    """One line: the tokens as text, line ends as \\n, ``spans`` in double brackets."""
    text, place = "", 0
    for start, end in sorted(spans):
        text += f"{tokenizer.decode(ids[place:start])}[[{tokenizer.decode(ids[start:end])}]]"
        place = end
    text = visible(f"{text}{tokenizer.decode(ids[place:])}").replace("\n", "\\n")
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]} ... {text[-half:]}"
