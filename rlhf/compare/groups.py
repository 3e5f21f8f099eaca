"""Runs which differ in their seed alone are one group, and a figure of it is a mean over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rlhf.compare.subject import Subject

SEED = "seed"
NO_SETTING = ("model.usual", "reward_model.usual")
"""Say what a model is usually used with; what it was used with has keys of its own."""


@dataclass(frozen=True)
class Group:
    """One side of a comparison."""

    letter: str
    members: Sequence[Subject]

    @property
    def first(self) -> Subject:
        """Stands for the group where one run must."""
        return self.members[0]

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """What the runs have in common, of what their stage reads."""
        return settings(self.first)

    @property
    def seeds(self) -> list[int]:
        """One a run; empty where they are not known."""
        return [each.seed for each in self.members if each.seed is not None]

    @property
    def metrics(self) -> set[str]:
        """Those that every run has."""
        return set.intersection(*(set(each.metrics) for each in self.members))

    def values(self, metric: str) -> list[float]:
        """One a run, in the order of the members."""
        return [each.metrics[metric] for each in self.members]


def settings(run: Subject) -> dict[str, str]:
    """The keys that a run's stage, its parents and its engine read, but for the seed."""
    read = {key: value for key, value in run.config.items() if key.partition(".")[0] in run.reads}
    return {key: value for key, value in read.items() if key != SEED and not key.startswith(NO_SETTING)}


def fold(subjects: Sequence[Subject]) -> list[Group]:
    """The groups in the order of their first runs; every run its own where seeds are all that sets them apart."""
    together: list[list[Subject]] = []
    for each in subjects:
        home = next((group for group in together if _same_but_for_seed(group, each)), None)
        if home is None:
            together.append([each])
        else:
            home.append(each)
    if len(together) == 1:
        together = [[each] for each in subjects]
    by_seed = [sorted(members, key=lambda run: run.seed or 0) for members in together]
    return [Group(_letter(at), members) for at, members in enumerate(by_seed)]


def _same_but_for_seed(group: Sequence[Subject], run: Subject) -> bool:
    first = group[0]
    if not first.config or first.stage != run.stage or run.seed is None:
        return False
    return run.seed not in [each.seed for each in group] and settings(first) == settings(run)


def _letter(at: int) -> str:
    """A to Z, then AA, AB and so on."""
    return (_letter(at // 26 - 1) if at >= 26 else "") + chr(ord("A") + at % 26)
