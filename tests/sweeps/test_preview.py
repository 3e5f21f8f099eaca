"""What a study would start and take, told without starting anything."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from rlhf import command_line
from rlhf.preflight import sweep_config
from rlhf.result import Result, Status
from sweeps import preview
from sweeps.cells import Cell, Composer
from sweeps.foresight import Foresight
from sweeps.legal import legal
from sweeps.space import Space
from tests.sweeps import made

SFT = {"stage": "sft", "ranks": 1, "zero": "none", "offload": "none", "hardware": {"usd_per_hour": 3.6}}


def left_behind(runs: Path, name: str, peak: float, seconds: float, **sft: Any) -> dict[str, Any]:
    """A finished run with these settings, which are returned by their full keys."""
    folder = runs / f"sft-tiny-{name}"
    folder.mkdir(parents=True)
    settings = {"max_steps": 10, "batch_size": 4, "micro_batch_size": 4, "max_length": 64, **sft}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml({**SFT, "sft": settings}))
    result = Result(Status.finished, "sft", "tiny", name, "s", seconds=seconds, peak_memory_gib=peak)
    (folder / "result.json").write_text(result.to_json())
    flat = {**SFT, "hardware.usd_per_hour": 3.6, **{f"sft.{key}": value for key, value in settings.items()}}
    return {key: value for key, value in flat.items() if not isinstance(value, dict)}


def test_time_is_told_from_the_nearest_run_by_the_samples_of_both(tmp_path: Path) -> None:
    like = left_behind(tmp_path, "a", 5.0, 30.0)
    left_behind(tmp_path, "b", 5.0, 1.0, max_length=1, batch_size=1, micro_batch_size=1)
    left_behind(tmp_path, "c", 5.0, 1.0, max_steps=None, epochs=2)
    asked = {**like, "sft.max_steps": 20, "sft.learning_rate": 7.0}
    found = Foresight(tmp_path).of("sft", "tiny", asked)
    assert (found.seconds, found.like, found.apart) == (60.0, "sft-tiny-a", 1)
    assert found.usd(asked) == pytest.approx(0.06)
    epochs = Foresight(tmp_path).of("sft", "tiny", {**asked, "sft.max_steps": None, "sft.epochs": 3})
    assert (epochs.seconds, epochs.like) == (1.5, "sft-tiny-c")
    assert Foresight(tmp_path).of("rm", "tiny", asked).seconds is None


def test_memory_is_between_what_needs_no_more_and_what_needs_no_less(tmp_path: Path) -> None:
    like = left_behind(tmp_path, "a", 3.0, 1.0, micro_batch_size=2)
    left_behind(tmp_path, "b", 9.0, 1.0, micro_batch_size=8)
    left_behind(tmp_path, "other", 99.0, 1.0, micro_batch_size=8, something="else")
    found = Foresight(tmp_path).of("sft", "tiny", {**like, "sft.micro_batch_size": 4})
    assert (found.least_gib, found.most_gib) == (3.0, 9.0)
    alone = Foresight(tmp_path).of("sft", "tiny", {**like, "sft.micro_batch_size": 16})
    assert (alone.least_gib, alone.most_gib) == (9.0, None)


def told(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Chains of cells, as a process with torch would tell them: a parent for each rank of adapters, one cell trained."""
    chains = []
    for cell in cells:
        names = {"run_signature": "r", "result_signature": f"{cell.run.lora.dim}-{cell.run.seed}"}
        parent = {
            **names,
            "name": "sft",
            "stage": "sft",
            "folder": f"runs/sft-tiny-{cell.run.lora.dim}-{cell.run.seed}",
            "finished": False,
        }
        own = {**names, "stage": "ppo", "folder": "x", "finished": cell.run.ppo.kl_coef == 0.3}
        chains.append({"stages": [parent, own]} if cell.run.ppo.kl_coef != 0.4 else {"fault": "no such file"})
    return chains


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `plan` prints, and its exit code."""
    monkeypatch.setattr(preview, "_chains", told)

    def run(*words: str) -> tuple[int, str]:
        code = command_line.main(["plan", "sweep.name=s", "tracker=none", f"paths.outputs={tmp_path}/out", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_every_cell_is_told_in_its_order_and_nothing_is_written(plan: Any, tmp_path: Path) -> None:
    code, said = plan("stage=ppo", "ppo.kl_coef=0,0.3,0.4", "ppo.kl_target=null,6", "lora=none,dim8", "sweep.seeds=2")
    assert code == 0 and "Nothing was started." in said, said
    rows = [line.split() for line in said.splitlines() if "to run" in line or "trained before" in line or "cannot run" in line]
    first = [["1", "0", "null", "dim8"], ["2", "0.3", "null", "dim8"], ["3", "0.3", "6", "dim8"], ["4", "0.4", "null", "dim8"]]
    assert [row[:4] for row in rows[:4]] == first  # adapters need less memory
    assert said.count("left out: ppo.kl_coef=0: an adaptive coefficient") == 2
    assert "cells: 2 to run, 4 trained before, 4 cannot run, 2 left out" in said and "cannot run: no such file" in said
    assert "runs to train: 4 and 4 parents" in said and said.count("to be trained first") == 4
    assert list(tmp_path.iterdir()) == []


def test_cells_that_have_their_row_are_kept_and_what_needs_no_less_than_one_out_of_memory_will_not_fit(
    hydra: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preview, "_chains", told)
    folder, fixed = tmp_path / "out/studies/s", ["stage=sft", "model=tiny"]
    ends = [("finished", ""), ("infeasible", "oom"), ("stopped", "interrupted")]
    trials = [
        made.trial(at, {"sft.micro_batch_size": size}, *end) | {"overrides": [*fixed, f"sft.micro_batch_size={size}"]}
        for at, (size, end) in enumerate(zip((1, 4, 2), ends, strict=True))
    ]
    for each in trials:
        made.put(folder, each, {"eval/loss": 1.0})
    (folder / "study.json").write_text(json.dumps(made.book(trials=trials)))
    (folder / "study.db").touch()
    words = [*fixed, "sft.micro_batch_size=1,2,4,8", "sweep.name=s", f"paths.outputs={tmp_path}/out"]
    sweep = sweep_config(words)
    composer = Composer(Space.of(words, sweep))
    rows = preview.preview(composer, legal(composer, words, sweep), words).rows
    assert [(row.cell.point["sft.micro_batch_size"], row.state, row.why[:20]) for row in rows] == [
        (1, "has its row", "0000 finished"),
        (2, "to run", ""),
        (4, "has its row", "0001 infeasible/oom"),
        (8, "will not fit", "needs no less of any"),
    ]


SEARCH = ("stage=sft", "model=tiny", "sft.max_steps=10", "sweep.mode=tune", "sft.learning_rate=interval(1e-3,3e-3)")


def test_totals_of_a_search_are_those_of_its_trials_also_where_the_cell_that_is_shown_was_trained(
    plan: Any, tmp_path: Path
) -> None:
    left_behind(tmp_path / "out/runs", "a", 3.0, 10.0)
    code, said = plan(*SEARCH, "sweep.trials=10", "sweep.seeds=2", "hardware.usd_per_hour=3600", "ppo.kl_coef=0.3")
    assert code == 0 and "trained before" in said
    totals = said.split("10 trials like it, if none is pruned or needs no run:\n")[1]
    assert "runs to train: 20\n" in totals and "their own time: about " in totals and "their price: about $" in totals


def test_what_a_search_takes_whose_cell_cannot_run_is_not_known(plan: Any) -> None:
    said = plan(*SEARCH, "sweep.trials=10", "ppo.kl_coef=0.4")[1]
    assert "what they take is not known: the cell above cannot run\n" in said and "runs to train" not in said


def test_totals_of_a_search_are_of_the_trials_that_are_to_come(plan: Any, tmp_path: Path) -> None:
    folder = tmp_path / "out/studies/s"
    trials = [made.trial(at, {"sft.learning_rate": at * 1e-3}) for at in range(1, 4)]
    trials += [made.trial(4, {"sft.learning_rate": 2.5e-3}, "stopped", "interrupted")]
    for each in trials:
        made.put(folder, each, {"eval/loss": 1.0})
    (folder / "study.json").write_text(json.dumps(made.book(trials=trials)))
    (folder / "study.db").touch()
    said = plan(*SEARCH, "sweep.trials=10")[1]
    assert "7 of 10 trials to come, like it, if none is pruned or needs no run:\nruns to train: 7 and 1 parent\n" in said
    said = plan(*SEARCH, "sweep.trials=3")[1]
    assert "all 3 trials have ended:\nruns to train: 0\ntheir own time: none" in said and "their price: none" in said
    (folder / "study.db").unlink()  # the study begins anew
    said = plan(*SEARCH, "sweep.trials=3")[1]
    assert "3 trials like it, if none is pruned or needs no run:\nruns to train: 3 and 1 parent\n" in said


@pytest.mark.slow
def test_of_a_search_dimensions_budget_and_one_trial_are_told(plan: Any, tmp_path: Path) -> None:
    left_behind(tmp_path / "out/runs", "a", 3.0, 10.0)
    code, said = plan("sweep=tune_sft", "sweep.trials=7", "model=tiny", "sft.max_steps=10", "hardware.usd_per_hour=3.6")
    assert code == 0 and "budget: 7 trials, by tpe and sweep.pruner=none" in said
    assert "evenly over orders of magnitude" in said and "runs to train: 7" in said
    assert "their price: about $" in said and "sft-tiny-a" in said


@pytest.mark.slow
def test_a_single_run_is_told_too_and_faults_are_those_of_the_command(plan: Any) -> None:
    code, said = plan("stage=ppo")
    assert code == 0 and "one run of stage=ppo" in said and "runs to train: 1 and 1 parent\n" in said
    code, said = plan("stage=sft", "sft.micro_batch_size=3")
    assert code == 2 and "nothing was started" in said
    assert plan("--cfg", "job")[0] == 2


@pytest.mark.slow
def test_the_process_that_knows_torch_tells_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["stage=ppo", "debug=smoke", "lora=none,dim8", "tracker=none", f"paths.outputs={tmp_path}/out"]
    assert command_line.main(["plan", *words]) == 0
    said = capsys.readouterr().out
    assert "runs to train: 2 and 4 parents" in said  # a policy for each, and the reward model that begins as it
    assert not (tmp_path / "out").exists()
