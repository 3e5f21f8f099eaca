"""A study whose database was moved away: it begins anew, and nothing in the folders of before is taken for today's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import logbook

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]
Ran = Callable[[], list[float]]


@pytest.mark.parametrize("seeds", [1, 2])
def test_other_cells_get_folders_of_their_own(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path, seeds: int) -> None:
    """What lies in a folder of before stays: seeds that finished, verdicts, results."""
    fixed, study = (f"sweep.seeds={seeds}", "sweep.parallel=1"), tmp_path / "studies/s"
    assert run_study("sft.learning_rate=1e-3,2e-3", *fixed) == 0
    (study / "study.db").unlink()
    before = [each.read_bytes() for each in sorted((study / "trials").rglob("*.*"))]
    assert run_study("sft.learning_rate=7e-3,1e-3", *fixed) == 0
    assert ran()[2 * seeds :] == [7e-3] * seeds + [1e-3] * seeds
    assert [(row["number"], row["sft.learning_rate"], row["status"]) for row in rows()] == [
        ("0002", "0.007", "finished"),
        ("0003", "0.001", "finished"),
    ]
    kept = [each for each in sorted((study / "trials").rglob("*.*")) if each.relative_to(study / "trials").parts[0] < "0002"]
    assert [each.read_bytes() for each in kept] == before


def test_what_was_spent_before_is_not_of_its_budget(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The book of before is kept beside, also when that happens twice."""
    search = ("sweep.mode=tune", "sft.learning_rate=interval(1e-3,3e-3)", "sweep.parallel=1", "hardware.usd_per_hour=1e9")
    study, books = tmp_path / "studies/s", []
    for time in range(3):
        assert run_study(*search, "sweep.max_usd=1", f"seed={time + 1}") == 0
        assert [row["number"] for row in rows()] == [f"{time:04d}"]
        assert [each["folder"] for each in logbook.read(study)["runs"]] == [f"trials/{time:04d}"]
        assert ("study.json: is of a record that was moved away; kept as study." in capsys.readouterr().out) is (time > 0)
        books.append((study / "study.json").read_bytes())
        (study / "study.db").unlink()
    assert [(study / f"study.{time}.json").read_bytes() for time in (1, 2)] == books[:2]


def test_a_book_of_the_record_is_gone_on_with(run_study: Study, tmp_path: Path) -> None:
    for rates in ("1e-3,2e-3", "2e-3,7e-3"):
        assert run_study(f"sft.learning_rate={rates}") == 0
    book = logbook.read(tmp_path / "studies/s")
    assert (len(book["sessions"]), len(book["runs"])) == (2, 3)
    assert [each.name for each in (tmp_path / "studies/s").glob("study*.json")] == ["study.json"]


def test_a_folder_that_holds_nothing_is_free(run_study: Study, rows: Rows, tmp_path: Path) -> None:
    """As one whose sweeper died before it could record the trial."""
    (tmp_path / "studies/s/trials/0000").mkdir(parents=True)
    assert run_study("sft.learning_rate=1e-3,2e-3") == 0
    assert [row["number"] for row in rows()] == ["0000", "0001"]


def test_seeds_of_before_do_not_count_for_a_trial_that_was_run_afresh(run_study: Study, rows: Rows, tmp_path: Path) -> None:
    command = ("sft.learning_rate=1e7", "sweep.seeds=2", "seed=1")
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    (tmp_path / "spare").unlink()
    assert run_study(*command, "fresh=true") == 0
    assert [row["status"] for row in rows()] == ["lost"]
    (tmp_path / "spare").touch()
    assert run_study(*command) == 0
    assert (tmp_path / "ran_as").read_text().splitlines() == ["sft 1", "sft 2", "sft 1", "sft 1", "sft 2"]


def test_a_trial_with_all_its_seeds_has_ended(run_study: Study, rows: Rows, ran: Ran, tmp_path: Path) -> None:
    command = ("sft.learning_rate=1e7,1e-3", "sweep.seeds=2", "sweep.parallel=1")
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["lost", "finished"]
    trials = tmp_path / "studies/s/trials"
    shutil.rmtree(trials / "0000")
    shutil.copytree(trials / "0001", trials / "0000")
    count = len(ran())
    assert run_study(*command) == 0
    assert [row["status"] for row in rows()] == ["finished"] * 2 and len(ran()) == count
    assert json.loads((trials / "0000/result.json").read_text())["message"] == "mean of 2 seeds"
