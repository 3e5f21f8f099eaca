"""What differs from the defaults, and who set it."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlhf import composing, config
from rlhf.report.changes import Change, changes

TYPED = ["stage=ppo", "model=tiny", "debug=smoke", "ppo.kl_coef=0.25", "sft.max_steps=7"]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[str]]:
    config.register()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        overrides = [*TYPED, *composing.companions(TYPED)]
        composed = compose("config", [*overrides, "hydra/sweeper=basic"])
    path = tmp_path / "config.yaml"
    OmegaConf.save(composed, path)
    return path, overrides


def found(written: tuple[Path, list[str]], stage: str) -> dict[str, Change]:
    return {change.key: change for change in changes(*written, stage)}


def test_each_difference_names_who_set_it(written: tuple[Path, list[str]]) -> None:
    by_key = found(written, "ppo")
    default = OmegaConf.load(config.CONF / "ppo/default.yaml")
    assert by_key["ppo.kl_coef"] == Change("ppo.kl_coef", str(default.kl_coef), "0.25", "ppo.kl_coef=0.25")
    assert by_key["sft.max_steps"].by == "sft.max_steps=7"  # the recipe had set it too; what was typed comes last
    assert by_key["ppo.updates"].by == "debug=smoke"
    assert by_key["model.arch.layers"].by == "debug=smoke"
    assert by_key["ppo.critic_learning_rate"].by == "ppo=tiny (usual of the model)"


def test_what_has_its_default_is_not_named(written: tuple[Path, list[str]]) -> None:
    by_key = found(written, "ppo")
    assert "ppo.clip_range" not in by_key and "seed" not in by_key
    assert all(change.default != change.value for change in by_key.values())


def test_later_stages_do_not_concern_a_run(written: tuple[Path, list[str]]) -> None:
    assert {key.partition(".")[0] for key in found(written, "sft")} & {"rm", "ppo"} == set()


def test_without_a_note_of_what_was_typed_the_values_still_show(written: tuple[Path, list[str]]) -> None:
    by_key = {change.key: change for change in changes(written[0], [], "ppo")}
    assert by_key["ppo.kl_coef"].value == "0.25" and by_key["ppo.kl_coef"].by == "not recorded"


def test_keys_that_came_after_the_run_are_no_difference(written: tuple[Path, list[str]]) -> None:
    saved = OmegaConf.load(written[0])
    del saved["chat"], saved["ppo"]["clip_range"]
    OmegaConf.save(saved, written[0])
    assert not [key for key in found(written, "ppo") if key.startswith("chat") or key == "ppo.clip_range"]
