"""The rules that end trials early, worked out by hand."""

import math
from collections.abc import Sequence

import pytest

from rlhf.config import Pruner, Resource, SweepConfig
from rlhf.result import Objective
from sweeps.curves import Curve, Point, of_rows
from sweeps.fronts import better_than, crowding, fronts
from sweeps.pruning import Judgement, deal, sizes

LOSS, REWARD = Objective("loss", "minimize"), Objective("reward", "maximize")


def settings(pruner: str, **changed: object) -> SweepConfig:
    usual = {"reduction": 3, "brackets": 3, "min_rung": 1, "warmup_trials": 2, "resource": Resource.rounds}
    return SweepConfig(pruner=Pruner[pruner], **{**usual, **changed})  # type: ignore[arg-type]


def rule(pruner: str, objectives: Sequence[Objective] = (LOSS,), **changed: object) -> Judgement:
    return Judgement(settings(pruner, **changed), objectives)


def curve(*losses: float, every: int = 10, tokens: float = 100.0) -> Curve:
    """Evaluations every ten rounds; ``tokens`` a round."""
    return [Point(every * at, every * at * tokens, {"loss": loss}) for at, loss in enumerate(losses, 1)]


def pairs(*values: tuple[float, float]) -> list[Curve]:
    return [[Point(10, 1000.0, {"loss": loss, "reward": reward})] for loss, reward in values]


def judged(judgement: Judgement, own: Curve, *others: Curve, trial: int = 99) -> bool:
    return judgement.verdict(trial, own, dict(enumerate(others))).go


def test_asha_lets_the_best_third_of_those_at_the_rung_go_on() -> None:
    asha = rule("asha")
    five = [curve(loss) for loss in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert judged(asha, curve(0.15), *five)  # second of six, of whom 6 // 3 = 2 go on
    assert not judged(asha, curve(0.25), *five)  # third
    verdict = asha.verdict(99, curve(0.25), dict(enumerate(five)))
    assert (verdict.by, verdict.why) == ("asha", "rung 1: loss 0.25 against 0.2; 2 of 6 go on")
    assert judged(asha, curve(0.9))  # the first to come is the best so far
    assert not judged(asha, curve(0.9), curve(0.8))  # of two, 2 // 3 = 0, but always one
    assert judged(asha, curve(0.2), *five)  # as good as the last one that goes on is not behind it


def test_asha_judges_only_at_its_rungs_and_only_by_those_that_came_so_far() -> None:
    asha = rule("asha", min_rung=2)  # evaluations 2, 6, 18
    better = curve(*[0.1] * 6)
    at = {count: judged(asha, curve(*[0.9] * count), better) for count in range(1, 7)}
    assert [count for count, go in at.items() if not go] == [2, 6]
    skips = {count: asha.verdict(9, curve(*[0.1] * count), {}).skip for count in (1, 2, 3, 6)}
    assert skips == {1: 0, 2: 3, 3: 2, 6: 11}  # to the next rung: 2, 6, 6, 18
    assert judged(asha, curve(*[0.9] * 6), better[:5])
    assert not judged(asha, curve(0.9, 0.9), curve(0.1, 0.8, 0.95))  # by what it had then: 0.8


def test_larger_is_better_where_the_objective_says_so() -> None:
    high = Judgement(settings("asha"), [Objective("loss", "maximize")])
    assert judged(high, curve(0.9), curve(0.8)) and not judged(high, curve(0.8), curve(0.9))
    assert "loss 0.8 against 0.9" in high.verdict(9, curve(0.8), {0: curve(0.9)}).why


@pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_worst_and_ends_alone(worst: float) -> None:
    asha = rule("asha")
    assert not judged(asha, curve(worst))
    assert judged(asha, curve(0.9), curve(worst)) and judged(asha, curve(0.9), curve(worst), curve(worst), curve(0.1)) is False
    assert not judged(rule("median"), curve(worst))
    assert judged(rule("asha", min_rung=2), curve(worst))  # nobody ends before the first rung


def test_an_evaluation_without_the_metric_ends_nobody() -> None:
    other = Judgement(settings("asha"), [Objective("eval/else", "minimize")])
    verdict = other.verdict(9, curve(0.5), {0: curve(0.1)})
    assert verdict.go and "has no eval/else" in verdict.why


def test_trials_are_compared_after_as_many_tokens() -> None:
    # a batch four times as large has seen by its 1st evaluation what the small one has by its 4th
    large, small = curve(0.5, 0.4, tokens=400.0), curve(0.9, 0.8, 0.7, 0.6)
    tokens, rounds = rule("asha", resource=Resource.tokens), rule("asha", resource=Resource.rounds)
    assert judged(tokens, large[:1], small[:3])  # the small one has not come so far
    assert judged(tokens, small[:1], large)  # and the large one was never so little trained
    assert judged(tokens, small[:1], large, curve(0.95)) and not judged(rounds, small[:1], large)
    assert not judged(tokens, curve(0.7, tokens=400.0), small)  # 4000 tokens each: 0.7 against 0.6
    assert not judged(tokens, curve(0.9, tokens=104.0), curve(0.8))  # some tokens more or less are the same


def test_the_sizes_of_brackets_are_the_papers() -> None:
    assert sizes(5, 3) == [81, 34, 15, 8, 5]  # Hyperband, table 1: R = 81
    dealt = deal(3, 3)
    assert [dealt.count(bracket) for bracket in range(3)] == sizes(3, 3) == [9, 5, 3]
    assert set(dealt[:4]) == {0, 1, 2}  # mixed, not one after the other


def test_hyperband_judges_inside_a_bracket_from_its_own_first_rung() -> None:
    hyperband, dealt = rule("hyperband"), deal(3, 3)
    early, later = dealt.index(0), dealt.index(1)
    second_early = dealt.index(0, early + 1)
    bad, good = curve(0.9, 0.9, 0.9), curve(0.1, 0.1, 0.1)
    assert not hyperband.verdict(second_early, bad[:1], {early: good}).go
    assert hyperband.verdict(later, bad[:1], {early: good}).go  # its first rung is evaluation 3
    assert hyperband.verdict(later, bad, {early: good}).go  # and others' brackets do not count
    assert not hyperband.verdict(later + 17, bad, {later: good}).go  # 17 trials on the deal begins again


def test_the_median_of_running_averages_stops_whose_best_is_worse() -> None:
    median = rule("median", min_rung=2)
    others = [curve(0.8, 0.4, 0.1), curve(0.6, 0.6, 0.1), curve(1.0, 0.8)]  # averages of two: 0.6, 0.6, 0.9; median 0.6
    assert not judged(median, curve(0.7, 0.65), *others)
    assert judged(median, curve(0.5, 0.9), *others)  # its best so far is 0.5
    assert judged(median, curve(0.6, 0.9), *others)  # as good as the median
    assert judged(median, curve(0.9), *others)  # before the first rung
    assert judged(median, curve(0.9, 0.9), *others[:1])  # one has come so far, two are asked for
    assert "0.65 against 0.6" in median.verdict(9, curve(0.7, 0.65), dict(enumerate(others))).why


def test_without_a_pruner_all_go_on() -> None:
    assert judged(rule("none"), curve(math.nan), curve(0.1))


def test_fronts_and_crowding_by_hand() -> None:
    points = [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0), (3.0, 4.0), (5.0, 5.0)]
    assert fronts(points) == [0, 0, 0, 1, 2]
    # of the first front: ends infinite; (2, 3): (4 - 1) / 3 + (5 - 1) / 4 = 2
    assert crowding(points[:3]) == [math.inf, 2.0, math.inf]
    assert crowding([(1.0, 2.0), (1.0, 2.0)]) == [0.0, 0.0]
    assert crowding([(1.0, 2.0), (2.0, math.inf), (3.0, 1.0)])[1] == pytest.approx(1.0)  # (3 - 1) / 2, and nothing of the other
    assert better_than((3.0, 4.0), [points[0], points[1], points[2], points[4]]) == 3
    assert better_than((2.0, 3.0), [points[0], points[2]]) == 2  # the same front, less apart


def test_several_objectives_are_ranked_by_front_and_then_by_crowding() -> None:
    asha = rule("asha", (LOSS, REWARD))
    others = pairs((1.0, 1.0), (4.0, 5.0), (2.0, 3.0), (6.0, 1.0), (7.0, 0.0))
    own = pairs((1.9, 3.1))[0]  # six at the rung, two go on: it dominates (2, 3), but both ends are further apart
    assert not judged(asha, own, *others)
    assert judged(asha, pairs((0.5, 9.0))[0], *others)  # dominates all
    assert not judged(asha, pairs((5.0, 2.0))[0], *others)
    assert judged(asha, pairs((math.nan, 9.0))[0], *others)  # worst in one, best in the other: nothing dominates it
    assert not judged(asha, pairs((math.nan, 4.0))[0], *others)
    assert not judged(asha, pairs((math.nan, math.inf))[0])
    assert "place 3 by non-domination" in asha.verdict(9, own, dict(enumerate(others))).why
    median = rule("median", (LOSS, REWARD))
    assert judged(median, own, *others) and not judged(median, pairs((6.5, 0.5))[0], *others)


def test_who_was_stopped_among_few_is_promoted_when_more_have_come() -> None:
    asha = rule("asha")
    own, others = curve(0.2), {number: curve(loss) for number, loss in enumerate((0.1, 0.5, 0.6, 0.7, 0.8))}
    assert not asha.promotable(9, own, {0: others[0]})
    assert asha.promotable(9, own, others)  # second of six
    assert not rule("median").promotable(9, own, others)


def test_the_same_history_gives_the_same_verdict_in_any_order() -> None:
    asha = rule("asha", (LOSS, REWARD))
    others = dict(enumerate(pairs((1.0, 1.0), (4.0, 5.0), (2.0, 3.0), (6.0, 1.0), (7.0, 0.0))))
    backwards = dict(reversed(others.items()))
    own = pairs((2.0, 4.0))[0]
    assert asha.verdict(9, own, others) == asha.verdict(9, own, backwards)


def test_an_evaluation_before_the_first_row_of_training_counts_its_tokens_by_that_row() -> None:
    """Else trials whose rows are rarer than their evaluations would be compared at evaluations of different rounds."""
    evaluations = [{"kind": "eval", "round": at, "eval/loss": 9.0 - at} for at in (2, 4)]
    trained = {"kind": "train", "round": 10, "progress/tokens": 5000.0}
    curve = of_rows([*evaluations, trained, {"kind": "eval", "round": 10, "eval/loss": 1.0}])
    assert [point.tokens for point in curve] == [1000.0, 2000.0, 5000.0]
