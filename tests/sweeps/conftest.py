"""A Hydra in which a study can compose, as the sweeper's adapter gives it, and a stand-in for the trial's process."""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

import launchers
from rlhf import config
from sweeps import study
from tests.tracking.wandb_server import server

__all__ = ["server"]

sys.path.append(str(Path(launchers.__file__).parent))
FAKE_TRIAL = Path(__file__).parent / "fake_trial.py"


@pytest.fixture
def hydra() -> Iterator[None]:
    """An initialised Hydra."""
    config.register()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        yield


@pytest.fixture
def run_study(hydra: None, tmp_path: Path) -> Callable[..., int]:
    """Run a study named `s` in ``tmp_path`` with fake trials; each line of ``tmp_path/ran`` is a trial that ran."""

    def run(*overrides: str) -> int:
        fixed = ["stage=sft", "sweep.name=s", "tracker=none", f"paths.outputs={tmp_path}"]
        return study.main([*fixed, *overrides], lambda folder: [sys.executable, str(FAKE_TRIAL), str(folder)])

    return run


@pytest.fixture
def rows(tmp_path: Path) -> Callable[[], list[dict[str, str]]]:
    """Reads the rows of ``trials.csv``."""

    def read() -> list[dict[str, str]]:
        with (tmp_path / "studies/s/trials.csv").open(newline="") as content:
            return list(csv.DictReader(content))

    return read


@pytest.fixture
def ran(tmp_path: Path) -> Callable[[], list[float]]:
    """Reads the learning rates of the trials that ran, in order."""

    def read() -> list[float]:
        path = tmp_path / "ran"
        return [float(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read
