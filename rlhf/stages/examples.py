"""From examples to token ids, and the order in which supervised stages see them."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from rlhf.config import TrainConfig
from rlhf.data.corpus import Corpus
from rlhf.data.partition import fraction
from rlhf.data.records import Example
from rlhf.fault import Fault
from rlhf.models.template import prompt_tokens, response_tokens
from rlhf.stages import token_cache
from rlhf.stages.token_cache import Asked, Rows


def tokens_of(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    answers: Sequence[Sequence[str]],
    max_length: int,
    cache: Path | None = None,
) -> Rows:
    """Prompt and response ids within ``max_length`` for each answer to each example; None where one leaves no prompt.

    A response is never cut: a cut one has no end token, and two cut ones can become the same text. The prompt is cut to
    what the longest answer leaves, the same for all of them, so that a comparison is between answers alone.

    Many rows are tokenised on all cores and kept in ``cache``, if there is one.
    """
    asked = [(example.turns, texts) for example, texts in zip(examples, answers, strict=True)]
    if cache is not None and len(asked) >= token_cache.KEPT_FROM:
        return token_cache.kept(tokenise, tokenizer, asked, max_length, cache)
    return tokenise(tokenizer, asked, max_length)


def tokenise(tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], max_length: int) -> Rows:
    """What ``tokens_of`` says, here and now."""
    encoded = iter(response_tokens(tokenizer, [text for _, texts in asked for text in texts]))
    rows: Rows = []
    for turns, texts in asked:
        responses = list(itertools.islice(encoded, len(texts)))
        room = max_length - max(map(len, responses))
        if room < MIN_PROMPT_TOKENS:
            rows.append(None)
        else:
            prompt = prompt_tokens(tokenizer, turns, room)
            rows.append([(prompt, response) for response in responses])
    return rows


MIN_PROMPT_TOKENS = 8
"""Room that must be left for the prompt: an answer to nothing teaches nothing."""


def rows_per_epoch(corpus: Corpus, stage: str, seed: int, rows: Sequence[object | None]) -> int:
    """Usable rows in one pass over the weighted sources."""
    return sum(rows[index] is not None for index in corpus.order(stage, 0, seed))


def total_steps(config: TrainConfig, stage: str, epoch: int) -> int:
    """Optimizer steps of the whole run: whole batches of ``config.epochs`` passes over ``epoch`` rows, at most ``max_steps``.

    Raises:
        Fault: there is not even one batch.
    """
    steps = int(config.epochs * epoch) // config.batch_size
    if steps == 0:
        raise Fault(
            f"{stage}.batch_size={config.batch_size}: {config.epochs} epochs of {epoch} usable rows do not fill one batch; "
            f"use a smaller batch or more epochs"
        )
    return min(steps, config.max_steps) if config.max_steps is not None else steps


Row = TypeVar("Row")


def epoch_batches(
    corpus: Corpus, stage: str, seed: int, rows: Sequence[Row | None], batch_size: int, first_step: int
) -> Iterator[list[Row]]:
    """The training rows of each step from ``first_step`` on; epochs flow into each other without a rest.

    ``rows`` holds one entry for each training example of the stage, None where it is not usable.
    """
    order = itertools.chain.from_iterable(corpus.order(stage, epoch, seed) for epoch in itertools.count())
    usable = (row for index in order if (row := rows[index]) is not None)
    left = itertools.islice(usable, first_step * batch_size, None)
    while True:
        yield list(itertools.islice(left, batch_size))


def tokenizer_texts(corpus: Corpus) -> Iterator[str]:
    """Text a tokenizer is trained on: prompts and responses of the demonstrations or, if there are none, of the pairs."""
    stage = "sft" if corpus.parts["sft", "train"] or not corpus.parts["rm", "train"] else "rm"
    for example in corpus.examples(stage, "train"):
        yield from (turn.text for turn in example.turns)
        if example.response is not None:
            yield example.response


def in_groups(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """``rows`` in order, ``size`` at a time."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def in_turns(examples: Sequence[Example], count: int) -> list[int]:
    """Indices of at most ``count`` examples of each source, for an evaluation.

    A source gives them in the order of a hash of their prompts, since files are often sorted, and under any system prompt
    in the same; the sources take turns, so that any first part of the list holds as much of one as of another.
    """
    taken: Counter[str] = Counter()
    turns = []
    for index in sorted(range(len(examples)), key=lambda each: fraction("evaluation", examples[each].talk)):
        source = examples[index].source
        turns.append((taken[source], index))
        taken[source] += 1
    return [index for turn, index in sorted(turns, key=itemgetter(0)) if turn < count]
