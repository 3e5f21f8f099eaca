"""Every recipe of ``conf/experiment`` is sound, and works with a two-layer network of its family on two ranks of a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rlhf import checks, composing, config, lineage
from rlhf.config import CONF, Run
from rlhf.result import Result, Status
from rlhf.rewards.functions import answer

ROOT = Path(__file__).parents[2]
RECIPES = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
SMALL = (
    *("debug=smoke", "data=demo", "hardware=cpu", "device=cpu", "precision=fp32", "tracker=none"),
    *(f"data.sources.{source}.cap=200" for source in ("documents", "demonstrations", "preferences", "prompts")),
)
"""Sizes, data and number format that two cores can do; ZeRO, offload and adapters stay the recipe's."""


def composed(*overrides: str) -> Run:
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        run = OmegaConf.to_object(composing.Composer().compose(overrides))
    assert isinstance(run, Run)
    return run


def two_ranks(recipe: str) -> tuple[str, ...]:
    """Overrides that make ``recipe`` small, for two ranks; one that is for plain torch gets ZeRO 0, which computes the same.

    A reward that checks answers gives way to another, since prompts of the built-in world have no solution.
    """
    own = OmegaConf.load(CONF / "experiment" / f"{recipe}.yaml")
    alone, checked = "zero" not in own, OmegaConf.select(own, "reward.function") == "answer"
    rule = ["reward.function=length", "reward.target_words=8"] if checked else []
    return (f"experiment={recipe}", *SMALL, "ranks=2", *(["zero=0"] if alone else []), *rule)


def faults(run: Run) -> list[str]:
    """All but that an extra is missing, which says how to mend it."""
    return [fault for fault in checks.faults(run) if " not installed; pip install " not in fault]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_passes_checks_and_keeps_its_engine_when_made_small(recipe: str) -> None:
    whole, small = composed(f"experiment={recipe}"), composed(*two_ranks(recipe))
    assert faults(small) == []
    if whole.model.path is None or not whole.model.path.startswith("package:"):
        assert faults(whole) == []
    for stage in lineage.chain(whole, whole.stage):
        batch, micro = getattr(whole, stage).batch_size, getattr(whole, stage).micro_batch_size
        assert batch % (micro * whole.ranks) == 0
    assert (small.offload, small.lora.dim, small.reward_lora.dim) == (whole.offload, whole.lora.dim, whole.reward_lora.dim)
    assert small.model.arch is not None and small.model.arch.layers == 2
    if whole.model.arch is not None:
        assert small.model.arch.family is whole.model.arch.family


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_two_steps_of_every_stage_on_two_ranks(recipe: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlhf", *two_ranks(recipe), f"paths.outputs={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    run = composed(*two_ranks(recipe))
    folders = {folder.name.split("-")[0]: folder for folder in (tmp_path / "runs").iterdir()}
    assert set(folders) == set(lineage.chain(run, run.stage))
    for stage, folder in folders.items():
        result = Result.read(folder / "result.json")
        assert result is not None and result.status is Status.finished, stage
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert max(row["round"] for row in rows) == 2
        kept = OmegaConf.load(folder / "config.yaml")
        assert (kept.ranks, kept.zero, kept.offload) == (2, run.zero.name, run.offload.name)
        assert (folder / "artifact").is_dir()


@pytest.mark.parametrize(
    ("recipe", "solution", "right", "wrong"),
    [
        ("grpo_gsm8k", "12/3=<<12/3=4>>4\n#### 4", ["So #### 4", "####  $4.00"], ["4", "#### 5", "#### four"]),
        ("grpo_gsm8k", "#### 1,240", ["#### 1240"], ["#### 1", "#### 12400", "1,240 ####"]),
        ("grpo_persona", "Yes", ["Yes"], ["No", "yes", "Yes, I would", "No Yes", ""]),
    ],
)
def test_what_a_recipe_takes_for_the_answer(recipe: str, solution: str, right: list[str], wrong: list[str]) -> None:
    pattern = OmegaConf.load(CONF / "experiment" / f"{recipe}.yaml").reward.pattern
    assert [answer(response, solution, pattern) for response in right] == [1.0] * len(right)
    assert [answer(response, solution, pattern) for response in wrong] == [0.0] * len(wrong)


def test_the_page_lists_every_recipe() -> None:
    rows = [line for line in (ROOT / "docs/recipes.md").read_text().splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == RECIPES
    for row in rows:
        assert row.count("|") == 6, row
