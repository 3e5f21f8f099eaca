"""Published curves: whose they are, where they lie over a run with another batch, and that most runs have none."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rlhf.config import CONF, STAGES
from rlhf.report import page, published
from rlhf.report.folder import read

RECIPE = "ds_chat_opt1.3b_16xv100"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A PPO run of the recipe with batches of 32 instead of 64."""
    path = tmp_path / "ppo-opt1.3b-0123abcd"
    path.mkdir()
    (path / "config.yaml").write_text("ppo: {batch_size: 32}\n")
    (path / "overrides.txt").write_text(f"experiment={RECIPE}\nppo.batch_size=32\n")
    rows = [{"round": at, "kind": "train", "seconds": 1.0, "objective/scores": at / 100} for at in (50, 100)]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_curve_lies_over_the_same_number_of_prompts(folder: Path) -> None:
    points = published.of(read(folder)).curves["objective/scores"]
    assert points[0] == (50, 0.33)  # 25 updates of 64 prompts are 50 of 32
    assert len(points) == 10 and points[-1] == (927, 4.46)


def test_the_report_shows_it_with_its_source(folder: Path) -> None:
    text = page.write(folder).read_text()
    assert "published at 50: 0.33" in text and '<i class="key c2"></i>published' in text
    assert "logs of DeepSpeed-Chat, 2023-04-18" in text


def test_a_run_of_something_else_has_none(folder: Path) -> None:
    (folder / "overrides.txt").write_text("experiment=tiny_assistant\n")
    assert published.of(read(folder)) == published.Published()
    assert "published" not in page.write(folder).read_text()


def test_curves_belong_to_recipes_and_go_on_to_their_last_step() -> None:
    for recipe, entry in json.loads(published.FILE.read_text()).items():
        numbers = OmegaConf.load(CONF / "experiment" / f"{recipe}.yaml")
        for stage, content in entry["stages"].items():
            assert stage in STAGES and content["remark"]
            steps = numbers[stage].get("max_steps") or numbers[stage].get("updates")
            batch = numbers[stage].get("batch_size", 64)
            for points in content["curves"].values():
                seen = [at for at, _ in points]
                assert seen == sorted(seen) and 0.95 * steps * batch <= seen[-1] <= steps * batch
