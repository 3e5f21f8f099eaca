"""From examples to token ids, and the order in which supervised stages see them."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from rlhf.config import TrainConfig
from rlhf.data.corpus import Corpus
from rlhf.data.records import Example
from rlhf.models.template import prompt_tokens, response_tokens
from rlhf.stages.batches import Tokens


def tokens_of(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], responses: Sequence[str], max_length: int
) -> list[Tokens | None]:
    """Prompt and response ids within ``max_length`` for each example; None where the response leaves no room for a prompt.

    A response is never cut: a cut one has no end token, and two cut ones can become the same text.
    """
    rows: list[Tokens | None] = []
    for example, answer in zip(examples, response_tokens(tokenizer, responses), strict=True):
        room = max_length - len(answer)
        rows.append((prompt_tokens(tokenizer, example.turns, room), answer) if room >= MIN_PROMPT_TOKENS else None)
    return rows


MIN_PROMPT_TOKENS = 8
"""Room that must be left for the prompt: an answer to nothing teaches nothing."""


def total_steps(config: TrainConfig, corpus: Corpus, stage: str, seed: int, rows: Sequence[object | None]) -> int:
    """Optimizer steps of the whole run: whole batches of ``epochs`` passes over the weighted sources, at most ``max_steps``.

    Raises:
        ValueError: there is not even one batch.
    """
    epoch = sum(rows[index] is not None for index in corpus.order(stage, 0, seed))
    steps = int(config.epochs * epoch) // config.batch_size
    if steps == 0:
        raise ValueError(
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
    """Text a tokenizer is trained on: the demonstrations, prompts and responses."""
    for example in corpus.examples("sft", "train"):
        yield from (turn.text for turn in example.turns)
        if example.response is not None:
            yield example.response


def in_groups(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """``rows`` in order, ``size`` at a time."""
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def first_of_each_source(rows: Sequence[tuple[Example, Row]], count: int) -> list[tuple[Example, Row]]:
    """At most ``count`` rows of each source, so that no source crowds another out of an evaluation."""
    taken: Counter[str] = Counter()
    kept = []
    for example, row in rows:
        if taken[example.source] < count:
            taken[example.source] += 1
            kept.append((example, row))
    return kept
