"""Cells are what Hydra composes of their overrides, in whatever order options and values stand."""

import itertools
from collections.abc import Iterator

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlhf import config, preflight
from sweeps.cells import Cell, Composer
from sweeps.space import Space


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    config.register()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        yield


@pytest.mark.parametrize(
    "words",
    [
        ["sweep=characterize_ppo", "model=opt125m"],
        ["sft.batch_size=32,64", "data=local", "data.sources.mine.path=rows.jsonl", "lora=none,dim8", "stage=sft"],
        ["+source@data.sources.more=alpaca", "data.sources.more.cap=10,20", "~data.sources.preferences", "stage=sft"],
        ["model.arch.layers=2,3", "experiment=tiny_assistant", "lora.alpha=8", "lora=dim8,dim64", "stage=sft"],
    ],
    ids=["shipped", "a file", "a source more and one less", "a recipe"],
)
def test_a_cell_is_what_hydra_composes(words: list[str]) -> None:
    space = Space.of(words, preflight.sweep_config(words))
    composer = Composer(space)
    made = 0
    for point in itertools.islice(space.points(), 0, None, max(1, int(space.size) // 5)):
        cell = composer.cell(point)
        if isinstance(cell, Cell):
            made += 1
            expected = compose("config", [*space.overrides(point), *cell.companions])
            assert OmegaConf.to_container(cell.composed) == OmegaConf.to_container(expected), cell.label
    assert made > 1


def digests(*words: str) -> set[str]:
    """Names of the cells of a space."""
    listed = [*words, "debug=smoke"]
    space = Space.of(listed, preflight.sweep_config(listed))
    cells = [Composer(space).cell(point) for point in space.points()]
    return {cell.digest for cell in cells if isinstance(cell, Cell)}


def test_a_cell_is_told_apart_by_what_its_stages_read() -> None:
    """So that a study keeps its rows when stages and groups are added that it has nothing to do with."""
    assert len(digests("stage=sft", "dpo.beta=0.1,0.2", "chat.seed=1,2")) == 1
    assert len(digests("stage=sft", "sft.learning_rate=1e-3,2e-3", "zero=none,0")) == 4
    assert len(digests("stage=ppo", "sft.learning_rate=1e-3,2e-3")) == 2  # of a parent
    assert len(digests("stage=sft", "sft.eval_every=1", "early_stop.patience=null,3")) == 2
    assert len(digests("stage=ppo", "parents.rm=hub/one,hub/two")) == 2
