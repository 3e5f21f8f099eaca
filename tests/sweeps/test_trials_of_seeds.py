"""Trials that are means over seeds, with fake runs."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from rlhf.compare.seeds import HOPELESS
from sweeps.answer import folder, standing, words

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]


def test_a_trial_is_the_mean_over_seeds_and_hopeless_ones_get_fewer(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study("sft.learning_rate=1e-3,2e-3", "sweep.seeds=3", "sweep.parallel=1", "seed=1") == 0
    good, bad = rows()
    assert float(good["objective"]) == pytest.approx(0.101) and float(good["seconds_of_all_seeds"]) == 4.5
    assert [good[f"run_folder_of_seed_{seed}"] for seed in (1, 2, 3)] == ["runs/x"] * 3
    assert float(good["eval/loss_low"]) < 0.101 < float(good["eval/loss_high"])
    assert (tmp_path / "ran_as").read_text().split("\n")[:3] == ["sft 1", "sft 2", "sft 3"]
    assert bad["message"] == "mean of 2 seeds of 3: worse than the best for certain"
    assert sorted(path.name for path in (tmp_path / "studies/s/trials/0001").glob("*/")) == ["1", "2"]
    said = capsys.readouterr().out
    assert "0000 finished, eval/loss 0.101 ± 0.0025 in" in said and "best eval/loss: 0.101 ± 0.0025 in 0000" in said
    assert said.count("run it again: python -m rlhf reproduce") == 3 and " s a seed " in said
    assert "0.2005 ± 0.0064" in next(line for line in said.splitlines() if line.split()[:2] == ["0001", "0.002"])


def test_a_trial_that_got_fewer_seeds_for_being_worse_is_nowhere_the_best(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its mean over two seeds is below the best one's over three: the third is the worst of each."""
    assert run_study("sft.learning_rate=1e-3,1.002e-3", "sweep.seeds=3", "sweep.parallel=1", "seed=1") == 0
    best, worse = rows()
    assert worse["message"].endswith(HOPELESS) and float(worse["objective"]) < float(best["objective"])
    assert [float(row["cost/usd"]) for row in rows()] == [0.5, 0.5] and float(best["cost_usd_of_all_seeds"]) == 1.5
    said = capsys.readouterr().out
    assert "best eval/loss: 0.101 ± 0.0025 in 0000" in said and "not distinguishable" not in said
    read = folder.read(tmp_path / "studies/s")
    found = standing.of(read)
    assert [each.number for each in found.ranked] == [0, 1] and [each.number for each in found.front] == [0]
    assert found.alike == found.champions == [] and "All others are distinguishable" in words.likeness(read, found)
    told = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'studies/s/study.db'}")
    assert told.best_trial.number == 0 and told.trials[1].value == pytest.approx(0.1012)


def test_a_trial_gets_fewer_seeds_also_for_what_its_runs_took(run_study: Study, rows: Rows) -> None:
    goal = "sweep.objective=[mem/peak_gib]"
    assert run_study("sft.micro_batch_size=1,2", goal, "sweep.seeds=3", "sweep.parallel=1", "seed=1") == 0
    assert [row["message"] for row in rows()] == ["mean of 3 seeds", f"mean of 2 seeds of 3: {HOPELESS}"]


def test_trials_under_several_numbers_of_seeds_are_ranked_on_those_that_they_share(
    run_study: Study, rows: Rows, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_study("sft.learning_rate=1e-3", "sweep.seeds=2", "seed=1") == 0
    assert run_study("sft.learning_rate=1e-3,1.002e-3", "seed=1") == 0
    assert [float(row["objective"]) for row in rows()] == pytest.approx([0.1005, 0.1002])  # of one seed, the lower one
    said = capsys.readouterr().out
    assert "best eval/loss: 0.1005 ± 0.0064 in 0000" in said and "not distinguishable from it on these seeds: 0001\n" in said
    found = standing.of(folder.read(tmp_path / "studies/s"))
    assert [each.number for each in found.ranked] == [0, 1] and [each.number for each in found.alike] == [1]


@pytest.mark.parametrize("mode", ["characterize", "tune"])
def test_more_seeds_run_only_those_that_are_missing(run_study: Study, rows: Rows, tmp_path: Path, mode: str) -> None:
    command = ("sft.learning_rate=1e-3,2e-3", "sweep.parallel=1", "seed=1", f"sweep.mode={mode}", "sweep.trials=2")

    def ran(seeds: int) -> list[str]:
        (tmp_path / "ran_as").write_text("")
        assert run_study(*command, f"sweep.seeds={seeds}") == 0
        return (tmp_path / "ran_as").read_text().splitlines()

    assert ran(1) == ["sft 1", "sft 1"]
    first = {float(row["sft.learning_rate"]): row["number"] for row in rows()}
    assert len(ran(2)) == 2 and len(ran(2)) == 0
    last = ["sft 4"] * (first[2e-3] == "0000")  # the worse one, if it comes second, is hopeless after its third
    assert ran(4) == ["sft 3", "sft 4", "sft 3", *last]
    assert ran(4) == ran(1) == []
    good = next(row for row in rows() if row["number"] == first[1e-3])
    assert (good["message"], float(good["seconds_of_all_seeds"])) == ("mean of 4 seeds", 6.0)
    assert float(good["objective"]) == pytest.approx(0.1015)
    assert (tmp_path / "studies/s/trials" / first[1e-3] / "1/log.txt").exists()


def test_one_failed_seed_fails_the_trial(run_study: Study, rows: Rows) -> None:
    assert run_study("sft.learning_rate=1e30,1e-3", "sweep.seeds=2", "sweep.parallel=1") == 0
    assert [(row["status"], row["message"]) for row in rows()][0] == ("failed", "seed=1: ended as nan")
