"""Which tokens of a demonstration are learnt: its response, all answers of its conversation, or everything."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from rlhf.config import SFTTargets
from rlhf.data.records import Example, Turn
from rlhf.models.template import answer_spans
from rlhf.stages.batches import Demonstration, Span, Tokens

Answer = tuple[str, tuple[Turn, ...], str]
"""Source, what came before, and the answer itself."""


def with_targets(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], rows: Sequence[Tokens | None], targets: SFTTargets
) -> list[Demonstration | None]:
    """``rows`` with what is learnt in them beside the response; None also where a longer row teaches the same.

    A conversation of several answers comes as an example for each, with what came before as its prompt. `assistant_turns`
    learns all answers of the longest one at once, and its beginnings are passed over. Each answer is learnt exactly once
    in an epoch: where conversations share their beginning, as in a tree, in one of them; where the longest had to be cut,
    what was cut off in a shorter one.
    """
    match targets:
        case SFTTargets.response:
            return [row and (row, ()) for row in rows]
        case SFTTargets.all:
            return [row and (row, ((1, len(row[0])),)) for row in rows]
    taken: set[Answer] = set()
    found: list[Demonstration | None] = [None] * len(rows)
    for index in sorted(range(len(rows)), key=lambda each: -len(examples[each].turns)):
        row, example = rows[index], examples[index]
        if row is None or (example.source, example.turns, example.response or "") in taken:
            continue
        new = {
            answer: span
            for place, span in _within(tokenizer, example.turns, row[0]).items()
            if (answer := (example.source, example.turns[:place], example.turns[place].text)) not in taken
        }
        taken |= new.keys()
        found[index] = (row, tuple(new.values()))
    return found


def _within(tokenizer: PreTrainedTokenizerBase, turns: tuple[Turn, ...], prompt: list[int]) -> dict[int, Span]:
    """Where the answers stand in ``prompt``, the ids of ``turns`` that may have lost their oldest; whole answers only."""
    length, spans = answer_spans(tokenizer, turns)
    cut = length - len(prompt)
    return {place: (start - cut, end - cut) for place, (start, end) in spans.items() if start - cut >= 1}
