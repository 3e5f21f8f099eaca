"""Training rows as a person reads them before the first round: special tokens visible, what is learnt in brackets."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rlhf.data.corpus import Corpus
from rlhf.stages.batches import Span
from rlhf.visible import visible

COUNT = 2
"""Rows that are shown."""

LONGEST = 200
"""Characters of a part, learnt or not; of a longer one the middle is left out."""

Marked = tuple[list[int], list[Span]]
"""Token ids and what is learnt, or judged, of them; an empty part is where an answer will be sampled."""


def examples_shown(
    tokenizer: PreTrainedTokenizerBase,
    corpus: Corpus,
    stage: str,
    seed: int,
    rows: Sequence[list[Marked] | None],
    about: Sequence[str] = (),
) -> list[str]:
    """A line for each sequence of the first rows that ``stage`` trains on; ``rows`` as in ``epoch_batches``.

    Args:
        about: what is said of each row before its text; empty: nothing.
    """
    indices = corpus.order(stage, 0, seed)[: 50 * COUNT]
    first = [(row, f", {about[index]}" if about else "") for index in indices if (row := rows[index]) is not None][:COUNT]
    return [f"row {number}{said}: {as_text(tokenizer, *each)}" for number, (row, said) in enumerate(first, 1) for each in row]


def as_text(tokenizer: PreTrainedTokenizerBase, ids: list[int], spans: Sequence[Span]) -> str:
    """One line: the tokens as text, line ends as \\n, ``spans`` in double brackets."""
    parts, place = [], 0
    for start, end in sorted(spans):
        parts += [_short(tokenizer, ids[place:start]), f"[[{_short(tokenizer, ids[start:end])}]]"]
        place = end
    return "".join([*parts, _short(tokenizer, ids[place:])])


def _short(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    line, half = visible(str(tokenizer.decode(ids))).replace("\n", "\\n"), LONGEST // 2
    return line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}"
