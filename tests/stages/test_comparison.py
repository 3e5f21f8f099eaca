"""Order measures of a scorer by hand: rank correlations, and how often the answer that stood first is preferred."""

import pytest

from rlhf.data.baselines import wilson_interval
from rlhf.data.records import Example, Turn
from rlhf.report.sources import lines, sources
from rlhf.stages.comparison import by_place, earlier_wins, ordering, spearman_rho


def compared(source: str, *places: int) -> Example:
    """An example whose answers, best first, stood at ``places``; two where nothing is known of them."""
    answers = tuple("abcd"[: len(places) or 2])
    listed = answers if len(answers) > 2 else ()
    return Example((Turn("user", "Why?"),), answers[0], answers[-1], source, ranking=listed, places=places)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([3.0, 2.0, 1.0], 1.0),
        ([1.0, 2.0, 3.0], -1.0),
        ([3.0, 1.0, 2.0], 0.5),  # 1 - 6 (0 + 1 + 1) / (3 * 8)
        ([4.0, 9.0, 1.0, 0.0], 0.8),  # 1 - 6 (1 + 1 + 0 + 0) / (4 * 15)
        ([2.0, 2.0, 1.0], 3**0.5 / 2),  # ranks 1.5, 1.5, 0: 1.5 / sqrt(1.5 * 2)
        ([5.0, 5.0, 5.0], 0.0),
    ],
)
def test_rank_correlation_with_shared_ranks(scores: list[float], expected: float) -> None:
    assert spearman_rho(scores) == pytest.approx(expected)


def test_lists_are_measured_and_pairs_are_not() -> None:
    pair, triple = compared("mine"), compared("mine", 0, 1, 2)
    metrics = ordering([pair, triple, triple], [[0.0, 1.0], [3.0, 2.0, 1.0], [2.0, 2.0, 1.0]])
    assert metrics["eval/spearman_rho"].value == pytest.approx((1 + 3**0.5 / 2) / 2)
    assert metrics["eval/kendall_tau"].value == pytest.approx((1 + 2 / 3) / 2)
    assert not {"eval/spearman_rho", "eval/kendall_tau"} & ordering([pair], [[0.0, 1.0]]).keys()


@pytest.mark.parametrize(
    ("places", "scores", "people", "scorer"),
    [
        ((0, 1), [2.0, 1.0], 1.0, 1.0),
        ((0, 1), [1.0, 2.0], 1.0, 0.0),
        ((1, 0), [2.0, 1.0], 0.0, 0.0),  # both like the one that stood second
        ((1, 0), [1.0, 2.0], 0.0, 1.0),
        ((1, 0), [1.0, 1.0], 0.0, 0.5),
        ((2, 0, 1), [3.0, 2.0, 1.0], 1 / 3, 1 / 3),  # only of the second and third best stood the better one earlier
        ((2, 0, 1), [1.0, 2.0, 3.0], 1 / 3, 2 / 3),
    ],
)
def test_preference_for_the_earlier_answer(places: tuple[int, ...], scores: list[float], people: float, scorer: float) -> None:
    assert earlier_wins(places, scores) == pytest.approx((people, scorer))


def test_places_count_by_source_and_only_where_both_orders_occur() -> None:
    examples = [compared("shown", 0, 1)] * 3 + [compared("shown", 1, 0), compared("sorted", 0, 1), compared("unknown")]
    metrics = by_place(examples, [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2 + [[1.0, 0.0]] * 2)
    assert metrics["baseline/first_wins/shown"].value == 0.75
    assert metrics["eval/first_preferred/shown"].value == 0.75  # the last of the four prefers the first, too
    ends = (metrics["eval/first_preferred_low/shown"].value, metrics["eval/first_preferred_high/shown"].value)
    assert ends == wilson_interval(3, 4)
    assert {name.rpartition("/")[2] for name in metrics} == {"shown"}


def test_the_sources_of_a_result() -> None:
    examples = [compared("shown", 0, 1), compared("shown", 1, 0), compared("bare")]
    metrics = {name: each.value for name, each in ordering(examples, [[1.0, 0.0]] * 3).items()}
    shown, bare = sources(metrics)
    assert (shown.pairs, shown.accuracy, shown.longer_wins, shown.first_preferred, shown.first_wins) == (2, 1.0, 0.5, 0.5, 0.5)
    assert (bare.first_preferred, bare.first_wins) == (None, None)
    assert lines(metrics) == [
        "shown 1.000  [0.342, 1.000], longer 0.500",
        "bare 1.000  [0.207, 1.000], longer 0.500",
    ]
    assert not lines({"eval/accuracy": 0.5, "reward/gain": 1.0})
