"""Cheap scorers, against values worked out by hand."""

import math
import random

import pytest

from rlhf.data.baselines import (
    Accuracy,
    bag_of_words_accuracy,
    bayes_accuracy,
    longer_wins_accuracy,
    longer_wins_by_source,
    wilson_interval,
)
from rlhf.data.records import Example, Turn


def pair(chosen: str, rejected: str, source: str = "mine", probability: float | None = None) -> Example:
    return Example((Turn("user", "Why?"),), chosen, rejected, source, probability)


def test_wilson_interval_against_published_values() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    published = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    for successes, total, low, high in published:
        assert wilson_interval(successes, total) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(20, 20)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_longer_wins_counts_characters_not_words_and_ties_as_half() -> None:
    pairs = [pair("internationally", "a b c d"), pair("short", "much longer"), pair("same", "size"), pair("long enough", "")]
    assert longer_wins_accuracy(pairs) == Accuracy(2.5, 4, 1)
    assert longer_wins_accuracy(pairs).value == 0.625
    assert longer_wins_accuracy(pairs).interval == wilson_interval(2.5, 4)
    assert math.isnan(longer_wins_accuracy([]).value)


def test_longer_wins_by_source() -> None:
    pairs = [pair("ab", "a", "one"), pair("a", "ab", "two"), pair("abc", "a", "one")]
    assert longer_wins_by_source(pairs) == {"one": Accuracy(2, 2), "two": Accuracy(0, 1)}


def test_bayes_accuracy_is_the_mean_of_the_better_side() -> None:
    pairs = [pair("a", "b", probability=p) for p in (0.9, 0.2, 0.5)] + [pair("a", "b")]
    assert bayes_accuracy(pairs) == pytest.approx((0.9 + 0.8 + 0.5) / 3)
    assert bayes_accuracy(pairs[-1:]) is None


def test_bag_of_words_learns_words_and_knows_when_it_knows_nothing() -> None:
    train = [pair(f"thank you {word}", f"go away {word}") for word in ["one", "two", "three", "four", "five", "six"]]
    known, reverse = pair("thank you so much", "go away now"), pair("away", "thank")
    unknown, reordered = pair("apple", "pear"), pair("you thank", "thank you")
    assert bag_of_words_accuracy(train, [known]) == Accuracy(1, 1)
    assert bag_of_words_accuracy(train, [reverse]) == Accuracy(0, 1)
    assert bag_of_words_accuracy(train, [unknown, reordered]) == Accuracy(1, 2, 2)
    assert bag_of_words_accuracy([], [known]) == Accuracy(0.5, 1, 1)


def test_bag_of_words_finds_the_minimum_a_single_word_has_in_closed_form() -> None:
    """For one word, chosen k times of n, the minimum has k - n s(w) = l2 w; a tiny l2 gives w = log(k / (n - k))."""
    from rlhf.data.baselines import _fit

    weights = _fit([{"good": 1}] * 30 + [{"good": -1}] * 10, l2=1e-9)
    assert weights == {"good": pytest.approx(math.log(3), abs=1e-3)}
    (heavy,) = _fit([{"good": 1}] * 30 + [{"good": -1}] * 10, l2=5.0).values()
    assert 30 - 40 / (1 + math.exp(-heavy)) == pytest.approx(5 * heavy, abs=1e-2)


def test_bag_of_words_recovers_a_noisy_rule_and_is_deterministic() -> None:
    chance = random.Random(0)
    words = [f"w{number}" for number in range(40)]
    worth = {word: chance.gauss(0, 2) for word in words}

    def drawn() -> Example:
        first, second = (chance.choices(words, k=6) for _ in range(2))
        gap = sum(worth[word] for word in first) - sum(worth[word] for word in second)
        if chance.random() > 1 / (1 + math.exp(-gap)):
            first, second = second, first
        return pair(" ".join(first), " ".join(second), probability=1 / (1 + math.exp(-abs(gap))))

    train, held_out = [drawn() for _ in range(1500)], [drawn() for _ in range(400)]
    found = bag_of_words_accuracy(train, held_out)
    assert found == bag_of_words_accuracy(train, held_out)
    best = bayes_accuracy(held_out)
    assert best is not None and found.interval[1] > best and found.value > 0.85
