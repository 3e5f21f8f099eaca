"""Each historic bug, put back, is named."""

import re
from pathlib import Path

import pytest

from tests.doctor.bugs import MUTANTS, Mutant
from tests.doctor.mutants import Ward, parents

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
QUICK = ("prompt-in-sft-loss", "end-doubled", "mean-of-means")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    outputs = tmp_path_factory.mktemp("ward")
    return Ward(outputs, parents(outputs))


@pytest.fixture(scope="module")
def ward_without_parents(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    return Ward(tmp_path_factory.mktemp("ward"), ())


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name in QUICK], ids=lambda each: each.name)
def test_a_bug_is_named(mutant: Mutant, ward_without_parents: Ward) -> None:
    assert ward_without_parents.names(mutant)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_what_a_bug_changes_is_there(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick half of the next test: code that was renamed would leave a bug nothing to break."""
    mutant.put_back(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name not in QUICK], ids=lambda each: each.name)
def test_every_other_bug_is_named(mutant: Mutant, ward: Ward) -> None:
    assert ward.names(mutant)


def test_there_are_as_many_as_the_page_says() -> None:
    told = re.search(r"is asked: all (\d+) are named", PAGE.read_text())
    assert told and len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) == int(told[1])
