"""Fixtures around the small real stages."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.config import Run
from rlhf.engine.torch_engine import TorchEngine
from rlhf.stages.interface import Stage
from tests.stages import small


@pytest.fixture(autouse=True)
def always_one_thread(one_thread: None) -> None:
    """For all tests in this folder."""


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Compose a small run in a folder of its own; overrides are added behind."""
    return lambda *overrides: small.make_run(tmp_path, *overrides)


@pytest.fixture(scope="session")
def forebears(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the parents of built stages are, each trained once and found by its signature."""
    return tmp_path_factory.mktemp("forebears")


@pytest.fixture
def build(tmp_path: Path, forebears: Path) -> Callable[..., Stage]:
    """Build a stage on plain torch, its parents trained for two steps first."""

    def make(stage: str, *overrides: str) -> Stage:
        run = small.make_run(tmp_path, f"stage={stage}", *overrides)
        engine = TorchEngine(run.device, run.precision, run.deterministic)
        return small.build(run, engine, small.train_parents(forebears, run))

    return make
