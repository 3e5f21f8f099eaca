"""Answers with labels, out of labels, ratings, pairs and ranked lists."""

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from rlhf.config import Format, SourceConfig
from rlhf.data import generated
from rlhf.data.corpus import Corpus
from rlhf.data.demand import see_labels
from rlhf.data.formats import completion, pair, ranked
from rlhf.data.labels import apart, ends_of, labelled
from rlhf.data.records import Example
from rlhf.data.world import World
from rlhf.fault import Fault

PROMPT = {"prompt": "Is it far?"}
PAIR = {**PROMPT, "chosen": "No.", "rejected": "Far?", "margin": 2}
LIST = {**PROMPT, "responses": ["Two streets.", "No.", "Far?"]}


def told(examples: list[Example], good_from: float = 0.5) -> list[tuple[str | None, bool]]:
    return [(each.response, bool(each.rating)) for example in examples for each in apart(example, good_from)]


@pytest.mark.parametrize(
    ("read", "row", "expected"),
    [
        (completion, {**PROMPT, "completion": "No.", "label": True}, [("No.", True)]),
        (completion, {**PROMPT, "completion": "Hm.", "label": "0"}, [("Hm.", False)]),
        (completion, {**PROMPT, "completion": "No."}, []),  # shown, but not judged
        (pair, PAIR, [("No.", True), ("Far?", False)]),
        (pair, {**PROMPT, "chosen": "No.", "rejected": "No."}, []),
        (ranked, LIST, [("Two streets.", True), ("Far?", False)]),
    ],
)
def test_each_answer_has_its_label(read: Callable[..., list[Example]], row: dict[str, object], expected: object) -> None:
    assert told(read(row, "mine")) == expected


def test_a_rating_on_a_scale_of_its_own_is_good_from_where_one_says() -> None:
    rows = [completion({**PROMPT, "completion": str(rating), "rating": rating}, "mine")[0] for rating in (1, 3, 5)]
    assert told(rows, 3.0) == [("1", False), ("3", True), ("5", True)]
    see_labels(3.0, rows)
    with pytest.raises(Fault, match=r"kto\.good_from=0\.5: all answers are good, .* set kto\.good_from between the ratings"):
        see_labels(0.5, rows)


def test_nothing_is_left_of_the_comparison() -> None:
    (example,) = ranked(LIST, "mine")
    for answer in apart(replace(example, probability=0.7, margin=1.0), 0.5):
        assert (answer.rejected, answer.ranking, answer.margin, answer.probability) == (None, (), None, None)
        assert answer.turns == example.turns and answer.demonstrates == bool(answer.rating)
    ends = ends_of(replace(example, places=(2, 0, 1)))
    assert (ends.answers, ends.places) == (("Two streets.", "Far?"), (2, 1))


def test_a_corpus_keeps_its_other_parts_and_shuffles_answers() -> None:
    pairs = [
        Example(pair({**PAIR, "prompt": f"Is it {each} far?"}, "mine")[0].turns, "No.", "Far?", "mine") for each in range(50)
    ]
    shown = completion({**PROMPT, "completion": "No."}, "mine")
    parts = {("rm", "train"): pairs, ("rm", "held_out"): pairs[:1], ("sft", "train"): shown}
    corpus = Corpus(parts, {"mine": 1.0}, "", None, 1.0, {}, [])
    found = labelled(corpus, 0.5)
    assert found.examples("sft", "train") == shown and len(found.examples("rm", "held_out")) == 2
    train, order = found.examples("rm", "train"), found.order("rm", 0, seed=1)
    together = sum(train[first].key == train[second].key for first, second in zip(order, order[1:], strict=False))
    assert len(order) == 100 and together < 10  # side by side they would be 50


def test_the_world_gives_labels_that_follow_the_gold_reward() -> None:
    """As noisy as its preferences: sigmoid((gold - expected) / temperature); about half are good."""
    town, chance = World(), Random(3)
    drawn = [town.judgement(chance, held_out=False) for _ in range(2000)]
    chances = [1 / (1 + math.exp((town.expected - town.gold(each.prompt, each.reply)) / town.temperature)) for each in drawn]
    spread = math.sqrt(sum(p * (1 - p) for p in chances))
    assert abs(sum(each.good for each in drawn) - sum(chances)) < 3.3 * spread
    assert abs(sum((each.good - p) * (p - 0.5) for each, p in zip(drawn, chances, strict=True))) < 3.3 * spread / 2
    assert 0.4 < sum(chances) / 2000 < 0.6
    taken = {"subset": None, "split": "train", "files": None, "streaming": False, "columns": {}, "keep": {}, "weight": 1.0}
    source = SourceConfig(path="world", format=Format.world_labels, cap=50, stages=["rm"], **taken)
    examples = generated.generate("votes", source, seed=1)["rm", "train"]
    assert {each.rating for each in examples} == {0.0, 1.0} and {each.rejected for each in examples} == {None}
