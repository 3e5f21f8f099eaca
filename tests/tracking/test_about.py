"""What trackers are told of a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from rlhf.config import Run, Zero
from rlhf.identity import Identity
from rlhf.tracking.about import about, display_name
from tests.stages import small

PPO = Identity("ppo", "c" * 16, "k7f2aaaa", {"sft": "a" * 16, "rm": "b" * 16}, Path("runs/ppo-tiny-k7f2aaaa"), "d" * 64)
SFT = Identity("sft", "a" * 16, "11112222", {}, Path("runs/sft-tiny-11112222"), "d" * 64)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return small.make_run(tmp_path)


def test_a_run_is_called_by_what_sets_it_apart(run: Run) -> None:
    assert display_name(run, PPO) == "ppo-tiny-s1-k7f2"
    large = replace(run, model=replace(run.model, name="opt1.3b"), zero=Zero["3"], lora=replace(run.lora, dim=128))
    assert display_name(large, PPO) == "ppo-opt1.3b-z3-lora128-s1-k7f2"


def test_what_one_run_makes_is_what_the_next_one_uses(run: Run) -> None:
    first, second = about(run, SFT, 0), about(run, PPO, 0)
    data, sft, rm = second.inputs
    assert sft == first.output and rm != sft
    assert data == first.inputs[0] and data.name == f"demo-{'d' * 16}"


def test_a_parent_from_the_hub_has_a_name_that_can_be_one(run: Run) -> None:
    hub = replace(PPO, parents={"sft": "hub:some/model"})
    assert about(run, hub, 0).inputs[1].name == "sft-hub-some-model"


def test_rounds_are_counted_in_samples(run: Run) -> None:
    assert about(run, PPO, 0).samples_a_round == run.ppo.batch_size
    assert about(run, SFT, 0).samples_a_round == run.sft.batch_size


def test_a_trial_of_a_study_has_its_number_and_what_is_varied_as_columns(run: Run) -> None:
    swept = {"ppo.kl_coef": "1e-05", "lora": "none", "ppo.updates": "3", "rollout.top_p": "0.95", "reward.path": "null"}
    trial = replace(run, stage="ppo", tracker=replace(run.tracker, trial=7, swept=swept))
    told = about(trial, PPO, 0)
    assert told.name == "0007-ppo-tiny-s1-k7f2" and told.config["trial"] == 7
    columns = {"ppo_kl_coef": 1e-5, "lora": "none", "ppo_updates": 3, "rollout_top_p": 0.95, "reward_path": "null"}
    assert told.config["swept"] == columns
    parent = about(trial, SFT, 0)  # trained on the way, and shared by other trials
    assert parent.name == "sft-tiny-s1-1111" and parent.config.keys().isdisjoint({"trial", "swept"})
    assert about(run, PPO, 0).config.keys().isdisjoint({"trial", "swept"})
