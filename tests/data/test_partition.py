"""Prompts never cross: not between stages, not between training and held out."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rlhf.config import PARTS
from rlhf.data.partition import assign, fraction, generator, is_held_out

openings = st.sampled_from([f"opening {number}" for number in range(40)])
offers = st.lists(st.tuples(openings, st.sets(st.sampled_from(PARTS))), max_size=80)


@given(offers, st.randoms())
def test_every_offered_opening_goes_to_one_stage_of_its_union_in_any_order(made: list[tuple[str, set[str]]], chance) -> None:
    union: dict[str, set[str]] = {}
    for opening, stages in made:
        union.setdefault(opening, set()).update(stages)
    given_to = assign(made)
    assert set(given_to) == {opening for opening, stages in union.items() if stages}
    assert all(stage in union[opening] for opening, stage in given_to.items())
    shuffled = list(made)
    chance.shuffle(shuffled)
    assert assign(shuffled) == given_to


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_raising_the_share_only_adds_to_what_is_held_out(opening: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert is_held_out(opening, high) or not is_held_out(opening, low)
    assert not is_held_out(opening, 0.0)
    assert is_held_out(opening, 1.0)


@given(st.text(), st.text())
def test_fractions_lie_below_one_and_stay_the_same(purpose: str, key: str) -> None:
    assert 0 <= fraction(purpose, key) < 1
    assert fraction(purpose, key) == fraction(purpose, key)


def test_the_hash_is_fixed_for_all_time() -> None:
    """A changed hash would mix what older runs trained on with what newer ones are measured on."""
    assert round(fraction("held-out", "opening"), 6) == 0.030075
    assert generator("order", 1, "sft", 0).random() == 0.8470219697696266


def test_shares_are_equal_and_independent_of_what_is_held_out() -> None:
    names = [f"prompt {number}" for number in range(6000)]
    given_to = assign((name, PARTS) for name in names)
    for split in (True, False):
        inside = [name for name in names if is_held_out(name, 0.3) is split]
        assert abs(len(inside) - 6000 * (0.3 if split else 0.7)) < 5 * (6000 * 0.21) ** 0.5
        for count in Counter(given_to[name] for name in inside).values():
            assert abs(count - len(inside) / 4) < 5 * (len(inside) * 3 / 16) ** 0.5


def test_generators_with_other_names_are_other_streams() -> None:
    drawn = {generator(*names).random() for names in (("a", 1), ("a", 2), ("b", 1), ("a", 1, 0))}
    assert len(drawn) == 4
