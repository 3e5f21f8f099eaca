"""The built-in world is what the demo claims: noisy but learnable preferences that cheap scorers cannot explain."""

import random

import pytest

from rlhf.data.baselines import bag_of_words_accuracy, bayes_accuracy, longer_wins_accuracy
from rlhf.data.records import Example, Turn
from rlhf.data.world import World, repetition

WORLD = World()


def pairs(count: int, held_out: bool, seed: int) -> list[Example]:
    rng = random.Random(seed)
    drawn = [WORLD.pair(rng, held_out) for _ in range(count)]
    return [Example((Turn("user", each.prompt),), each.chosen, each.rejected, "demo", each.probability) for each in drawn]


def test_the_claims_about_accuracy() -> None:
    held_out = pairs(3000, held_out=True, seed=1)
    bayes = bayes_accuracy(held_out)
    assert bayes is not None and 0.75 <= bayes <= 0.90
    assert longer_wins_accuracy(held_out).value <= 0.60
    assert bag_of_words_accuracy(pairs(3000, held_out=False, seed=2), held_out).value <= bayes - 0.1


def test_labels_are_drawn_with_the_probability_they_state() -> None:
    drawn = pairs(3000, held_out=False, seed=3)
    stated = sum(each.probability for each in drawn) / len(drawn)  # of the label that was drawn, so its mean exceeds 1/2
    right = sum(
        WORLD.gold(each.turns[0].text, each.response or "") >= WORLD.gold(each.turns[0].text, each.rejected or "")
        for each in drawn
    )
    assert right / len(drawn) == pytest.approx(bayes_accuracy(drawn), abs=0.03)
    assert stated > 0.5


def test_a_person_would_order_these_replies_the_same_way() -> None:
    prompt = "When does the library open on Friday?"
    best = "Hello! The library opens at nine. This is because the students read before lunch. Have a nice day!"
    worse = [
        "Hello! The library opens at six. This is because the students read before lunch. Have a nice day!",  # wrong hour
        "Hello! The museum opens at ten. This is because the guides arrive by train. Have a nice day!",  # another place
        "The library opens at nine. This is because the students read before lunch. Have a nice day! Hello!",  # greets last
        "Hello! The library opens at nine. This is because the students read before lunch. Have a nice",  # breaks off
        "Hello! The library opens at nine. The library opens at nine. The library opens at nine. Have a nice day!",  # rambles
        "Hello! Have a nice day!",  # no answer
        "nine",
        "",
    ]
    assert all(WORLD.gold(prompt, best) > WORLD.gold(prompt, reply) for reply in worse)


def test_held_out_prompts_are_never_drawn_for_training() -> None:
    rng = random.Random(4)
    training = {WORLD.prompt(rng, held_out=False) for _ in range(2000)}
    held_out = {WORLD.prompt(rng, held_out=True) for _ in range(2000)}
    assert not training & held_out
    assert all(map(WORLD.is_held_out, held_out)) and not any(map(WORLD.is_held_out, training))


def test_the_same_seed_draws_the_same_world() -> None:
    assert pairs(50, held_out=False, seed=5) == pairs(50, held_out=False, seed=5)
    assert pairs(50, held_out=False, seed=5) != pairs(50, held_out=False, seed=6)


def test_repetition_is_the_share_of_word_triples_seen_before() -> None:
    assert repetition("a b c d") == 0.0
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc: one of four came before
    assert repetition("a b") == repetition("") == 0.0
