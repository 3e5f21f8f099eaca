"""Hydra's own sweeper and launchers, as docs/launchers.md says to call them."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from rlhf import config, preflight
from rlhf.result import Result, Status

Shell = Callable[..., "CompletedProcess[str]"]
PACKAGES = {"basic": "hydra", "joblib": "joblib", "submitit_local": "submitit", "ray": "ray"}


@pytest.fixture(autouse=True)
def _registered() -> None:
    config.register()


def test_the_keys_of_another_sweeper_or_launcher_are_those_of_its_own() -> None:
    chosen = ["hydra.sweeper.max_batch_size=2", "hydra/sweeper=basic", "stage=sft", "model=tiny", "seed=1,2"]
    assert preflight.check(chosen, multirun=True).faults == []
    (fault,) = preflight.check([*chosen, "hydra.sweeper.max_size=2"], multirun=True).faults
    assert "max_size" in fault


def test_a_sweeper_that_is_not_ours_gets_the_companions_that_fit_every_cell() -> None:
    grid = ["stage=sft,rm", "model=tiny", "sft.learning_rate=1e-3,3e-3"]
    assert preflight.check(grid, multirun=True).companions == []  # ours fills them in cell by cell
    filled = preflight.check(["hydra/sweeper=basic", *grid], multirun=True)
    assert not filled.faults and {"data=demo", "sft=tiny"} <= set(filled.companions)


def test_companions_that_differ_from_cell_to_cell_are_to_be_named() -> None:
    grid = ["hydra/sweeper=basic", "stage=sft", "model=tiny,opt125m"]
    (fault,) = preflight.check(grid, multirun=True).faults
    assert "data, " in fault and "another option in each cell" in fault
    named = [f"{group}={option}" for group, option in (each.split("=") for each in preflight.check(["model=tiny"]).companions)]
    assert not preflight.check([*grid, *named], multirun=True).faults


@pytest.mark.slow
@pytest.mark.parametrize("launcher", PACKAGES)
def test_a_plain_batch_runs(shell: Shell, tmp_path: Path, root: Path, launcher: str) -> None:
    package = PACKAGES[launcher]
    if launcher != "basic" and find_spec(f"hydra_plugins.hydra_{package}_launcher") is None:
        pytest.skip(f"hydra-{package}-launcher is not installed")
    rows = [{"prompt": f"What is the sum of {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = f"data.sources.mine.path={tmp_path / 'rows.jsonl'}"
    small = ["debug=smoke", "data=local", "data.eval_fraction=0.3", source, "sft.max_steps=1"]
    path = f"{root}:{root / 'launchers'}"
    grid = ["stage=sft", "sft.batch_size=4", "sft.learning_rate=1e-3,3e-3", f"paths.outputs={tmp_path / 'outputs'}"]
    ended = shell("-m", "hydra/sweeper=basic", f"hydra/launcher={launcher}", *small, *grid, PYTHONPATH=path)
    assert ended.returncode == 0, ended.stderr
    results = [Result.load(each) for each in (tmp_path / "outputs/runs").glob("*/result.json")]
    assert [result.status for result in results] == [Status.finished] * 2
