"""Answers by themselves, each labelled good or bad, out of all that people said of answers."""

from dataclasses import replace

from rlhf.data.corpus import SPLITS, Corpus
from rlhf.data.records import Example


def apart(example: Example, good_from: float) -> list[Example]:
    """The judged answers of ``example``, each rated 1 (good) or 0 (bad).

    Of a pair or a ranked list these are the best, which is good, and the worst, which is bad: nobody said what those in
    between are. Of a rated answer the label is whether its rating is at least ``good_from``.
    """
    if example.rejected is None:
        return [] if example.rating is None else [_labelled(example, example.response or "", example.rating >= good_from)]
    if example.rejected == example.response:
        return []
    return [_labelled(example, example.response or "", True), _labelled(example, example.rejected, False)]


def ends_of(example: Example) -> Example:
    """``example`` with no answers but its best and its worst."""
    return replace(example, ranking=(), places=example.places[:1] + example.places[-1:] if example.places else ())


def labelled(corpus: Corpus, good_from: float) -> Corpus:
    """``corpus`` with, instead of comparisons, their answers one by one."""
    parts = {("rm", split): corpus.parts.get(("rm", split), []) for split in SPLITS}
    taken = {place: [each for example in examples for each in apart(example, good_from)] for place, examples in parts.items()}
    return replace(corpus, parts={**corpus.parts, **taken})


def _labelled(example: Example, answer: str, good: bool) -> Example:
    bare = replace(example, response=answer, rejected=None, probability=None, ranking=(), margin=None, places=())
    return replace(bare, rating=float(good), demonstrates=good)
