"""Each historic bug, put back, is named; what docs/doctor.md says is not seen is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.doctor.mutants import MUTANTS, Mutant, diagnosed, parents

QUICK = ("prompt-in-sft-loss", "end-doubled", "mean-of-means")
LEAST_NAMED = 0.9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return parents(tmp_path_factory.mktemp("parents"))


def named(mutant: Mutant, outputs: Path, given: tuple[str, ...], patch: pytest.MonkeyPatch) -> bool:
    return mutant.finding in {each.name for each in diagnosed(mutant, outputs, given, patch)}


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name in QUICK], ids=lambda each: each.name)
def test_a_bug_is_named(mutant: Mutant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(mutant, tmp_path, (), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name not in QUICK], ids=lambda each: each.name)
def test_every_other_bug_is_named(
    mutant: Mutant, tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named(mutant, tmp_path, given, monkeypatch) is bool(mutant.finding)


def test_few_are_not_seen() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
    assert sum(bool(mutant.finding) for mutant in MUTANTS) >= LEAST_NAMED * len(MUTANTS)
