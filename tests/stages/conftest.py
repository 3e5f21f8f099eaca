"""Small real runs for the tests of stages: two-layer networks on the demo, composed as the command line composes them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rlhf import chain, config, preflight
from rlhf.config import Run
from rlhf.engine.torch_engine import TorchEngine
from rlhf.stages import TABLE
from rlhf.stages.interface import Setting, Stage


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bits must not depend on how many cores the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """Compose a small run in a folder of its own; overrides are added behind."""

    def make(*overrides: str) -> Run:
        texts = ["debug=smoke", f"paths.outputs={tmp_path}", *overrides]
        if not any(text.startswith("data=") for text in overrides):
            texts += [f"data.sources.{source}.cap=200" for source in ("demonstrations", "preferences", "prompts")]
        config.register()
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config.CONF), version_base="1.3"):
            composed = compose("config", [*texts, *preflight.companions(texts)])
        run = OmegaConf.to_object(composed)
        assert isinstance(run, Run)
        return run

    return make


@pytest.fixture
def build(make_run: Callable[..., Run]) -> Callable[..., Stage]:
    """Build a stage ready for its loss, its parents trained for two steps first."""

    def make(stage: str, *overrides: str) -> Stage:
        run = make_run(f"stage={stage}", *overrides)
        parents = {}
        for name in TABLE[stage].parents(run):
            result = chain.execute(make_run(f"stage={name}", *overrides))
            assert result.artifact is not None, result.message
            parents[name] = Path(result.artifact)
        engine = TorchEngine(run.device, run.precision, run.deterministic)
        built = TABLE[stage](Setting(run, chain.load_corpus(run), engine, parents))
        engine.prepare(built.trainable())
        return built

    return make
