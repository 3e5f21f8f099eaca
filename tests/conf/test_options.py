"""Every option of every group composes, and the rules of the tree hold."""

import itertools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM

from rlhf import checks, config, preflight
from rlhf.config import CONF, ArchConfig, Run
from rlhf.models.arch import hf_config

SCHEMA = OmegaConf.structured(ArchConfig)
MODELS = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))
SAY = {  # what a person must say with an option
    ("model", "custom"): ["model.path=here", "reward_model.path=there"],
    ("reward_model", "custom"): ["model.path=here", "reward_model.path=there"],
    ("data", "default"): ["+source@data.sources.mine=default", "data.sources.mine.path=mine.jsonl"],
    ("data", "local"): ["data.sources.mine.path=mine.jsonl"],
    ("reward", "function"): ["reward.function=sentiment"],
    ("reward", "file"): [f"reward.path={__file__}:run_of"],
    ("reward", "http"): ["reward.url=http://127.0.0.1:8000/score"],
}


ONE_OF_EACH_FAMILY = ("tiny", "custom", "opt350m", "pythia160m", "gpt2", "bloom560m", "qwen3_0.6b", "llama3.2_1b")


def options() -> list[tuple[str, str]]:
    """Every (group, option) on disk; of the reward models, which only delegate to the models, one of each family.

    Data sets of the catalogue are added to a mix, not chosen, and have a test of their own.
    """
    there = ((file.parent.name, file.stem) for file in CONF.glob("*/*.yaml") if file.parent.name not in ("local", "source"))
    return sorted((group, option) for group, option in there if group != "reward_model" or option in ONE_OF_EACH_FAMILY)


@pytest.fixture(autouse=True)
def schema() -> None:
    config.register()


def run_of(*overrides: str) -> Run:
    found = preflight.check(list(overrides))
    assert found.faults == []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        run = OmegaConf.to_object(compose("config", [*overrides, *found.companions]))
    assert isinstance(run, Run)
    return run


@pytest.mark.parametrize(("group", "option"), options())
def test_every_option_composes_into_a_sound_run(group: str, option: str) -> None:
    small = option in ("tiny", "demo") or group in ("debug", "experiment")
    base = [] if small or group == "model" else ["model=opt125m"]
    if group == "reward_model":
        base = [f"model={option}"]
    run = run_of(*base, f"{group}={option}", *SAY.get((group, option), []))
    assert run.seed == 1
    assert [fault for fault in checks.faults(run) if " not installed; pip install " not in fault] == []


@pytest.mark.parametrize(("recipe", "model"), list(itertools.product(["smoke", "overfit"], ONE_OF_EACH_FAMILY)))
def test_debug_goes_with_every_family(recipe: str, model: str) -> None:
    said = SAY.get(("model", model), [])
    if (recipe, model) == ("smoke", "custom"):  # whose family only the user knows
        unknown = ("arch.family=llama", "arch.tie_embeddings=true", "arch.norm_first=true")
        said = [f"{slot}.{setting}" for slot in ("model", "reward_model") for setting in unknown]
    assert checks.faults(run_of(f"model={model}", f"debug={recipe}", *said)) == []


def test_both_slots_have_the_same_models_and_delegate() -> None:
    assert sorted(file.stem for file in (CONF / "reward_model").glob("*.yaml")) == MODELS
    for model in MODELS:
        twin = OmegaConf.to_container(OmegaConf.load(CONF / "reward_model" / f"{model}.yaml"))
        assert twin == {"defaults": [{"/model@_here_": model}]}


def test_stages_are_the_table() -> None:
    assert {name.removesuffix(".yaml") for name in ConfigStore.instance().list("stage")} == set(config.STAGES)
    assert not (CONF / "stage").exists()
    for stage in config.STAGES:
        assert run_of(f"stage={stage}").stage == stage
        assert hasattr(config.Run(), stage)


@pytest.mark.parametrize("group", ["experiment", "debug", "sweep"])
def test_recipes_leave_hydra_alone(group: str) -> None:
    for file in (CONF / group).glob("*.yaml"):
        assert "hydra" not in file.read_text().replace("Hydra", ""), file


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_says_how_to_run_it(file: Path) -> None:
    head = list(itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines()))
    assert head[0] == "# @package _global_"
    assert any(f"python -m rlhf experiment={file.stem}" in line for line in head)


def test_a_usual_companion_exists() -> None:
    for model in MODELS:
        usual = OmegaConf.load(CONF / "model" / f"{model}.yaml").usual
        assert set(usual) <= set(config.COMPANIONS)
        for group, option in usual.items():
            assert (CONF / group / f"{option}.yaml").is_file() or (group, option in config.catalogue()) == ("data", True), (
                option
            )


def test_every_data_set_of_the_catalogue_goes_into_a_mix() -> None:
    run = run_of("data=default", *(f"+source@data.sources.{name}={name}" for name in config.catalogue()))
    assert set(run.data.sources) == set(config.catalogue())
    assert checks.faults(run) == []


def test_a_data_set_of_the_catalogue_is_a_mix_by_its_name() -> None:
    assert set(config.catalogue()) <= {name.removesuffix(".yaml") for name in ConfigStore.instance().list("data")}
    data = run_of("model=opt125m", "data=alpaca").data
    assert (data.name, list(data.sources), data.sources["alpaca"].path) == ("alpaca", ["alpaca"], "hub:yahma/alpaca-cleaned")


def test_a_data_set_is_added_under_a_name_of_ones_own() -> None:
    run = run_of("data=demo", "+source@data.sources.sums=alpaca", "data.sources.sums.cap=7")
    assert (run.data.sources["sums"].path, run.data.sources["sums"].cap) == ("hub:yahma/alpaca-cleaned", 7)
    assert {"demonstrations", "preferences", "prompts", "sums"} <= set(run.data.sources)


def test_git_tracks_every_file_of_the_tree(root: Path) -> None:
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "conf"], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    there = {
        str(file.relative_to(root)) for file in (root / "conf").rglob("*") if file.is_file() and file.parent.name != "local"
    }
    assert there == {file for file in listed if (root / file).exists()}, "git add it, or see whether .gitignore swallows it"


def published() -> Iterator[tuple[str, int]]:
    for model in MODELS:
        content = OmegaConf.load(CONF / "model" / f"{model}.yaml")
        if content.params is not None:
            yield model, content.params


def parameters(model: str) -> int:
    """Distinct weights of a causal language model with the sizes of ``conf/model``, counted without memory."""
    arch = OmegaConf.to_object(OmegaConf.merge(SCHEMA, OmegaConf.load(CONF / "model" / f"{model}.yaml").arch))
    assert isinstance(arch, ArchConfig)
    with torch.device("meta"):
        return sum(weight.numel() for weight in AutoModelForCausalLM.from_config(hf_config(arch)).parameters())


@pytest.mark.parametrize(("model", "count"), list(published()))
def test_sizes_give_the_published_parameter_count(model: str, count: int) -> None:
    assert parameters(model) == pytest.approx(count, rel=0.01)


def test_tiny_is_small_enough_for_two_cores() -> None:
    assert 0.3e6 <= parameters("tiny") <= 1.0e6


def test_the_table_of_models_says_what_the_files_say(root: Path) -> None:
    table = (root / "docs/models.md").read_text()
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `") and line.count("|") == 8}
    assert sorted(rows) == sorted(set(MODELS) - {"custom"})
    for model, row in rows.items():
        there = OmegaConf.load(CONF / "model" / f"{model}.yaml")
        said = [cell.strip(" `") for cell in row.split("|")[2:-1]]
        assert said == [
            there.path or "random weights",
            there.arch.family,
            f"{there.params:,}" if there.params else "–",
            str(there.arch.max_positions),
            there.template,
            (there.revision or "–")[:8],
        ]
