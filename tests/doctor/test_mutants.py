"""Each historic bug, put back, is named."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.doctor.bugs import MUTANTS, Mutant
from tests.doctor.mutants import diagnosed, parents

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
QUICK = ("prompt-in-sft-loss", "end-doubled", "mean-of-means")


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


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_what_a_bug_changes_is_there(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick half of the next test: code that was renamed would leave a bug nothing to break."""
    mutant.put_back(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name not in QUICK], ids=lambda each: each.name)
def test_every_other_bug_is_named(
    mutant: Mutant, tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert named(mutant, tmp_path, given, monkeypatch)


def test_there_are_as_many_as_the_page_says() -> None:
    told = re.search(r"is asked: all (\d+) are named", PAGE.read_text())
    assert told and len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) == int(told[1])
