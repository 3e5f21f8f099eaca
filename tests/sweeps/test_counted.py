"""Long work says how far it is."""

from sweeps.counted import EVERY_SECONDS, counted


class Clock:
    """One that is turned by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_many_things_are_announced_and_counted_as_time_goes_by() -> None:
    said: list[str] = []
    clock = Clock()
    for _ in counted(range(30), "checking", said.append, clock):
        clock.now += EVERY_SECONDS / 10
    assert said == ["checking: 30 of them", "checking: 10 of 30", "checking: 20 of 30"]


def test_a_few_are_gone_through_without_a_word_unless_they_take_long() -> None:
    said: list[str] = []
    assert list(counted("ab", "checking", said.append)) == ["a", "b"] and said == []
    clock = Clock()
    for _ in counted("ab", "checking", said.append, clock):
        clock.now += EVERY_SECONDS
    assert said == ["checking: 1 of 2"]
