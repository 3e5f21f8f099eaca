"""Settings that change nothing are named, and those that may change something are not."""

from dataclasses import replace

import pytest

from rlhf import idle
from tests.test_checks import composed

NONE = "reward=function reward.function=answer"


def told(typed: str, study: bool = False) -> list[str]:
    words = typed.split()
    first = [word.partition("=")[0] + "=" + word.partition("=")[2].split(",")[0] if study else word for word in words]
    return idle.settings(composed(*first), words, study)


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("ppo.ptx_data=pretrain", "ppo.ptx_data=pretrain: has no effect with ppo.ptx_coef=0.0"),
        ("reward.url=http://localhost/", "has no effect with reward.kind=model"),
        ("reward.path=my.py:f", "has no effect with reward.kind=model"),
        ("reward.pattern=x", "has no effect with reward.kind=model"),
        ("reward.disagreement_coef=2", "has no effect with reward.members=1"),
        (f"reward.members=2 {NONE}", "reward.members=2: has no effect with reward.kind=function"),
        (f"reward.target_words=3 {NONE}", "reward.target_words=3: has no effect with reward.function=answer"),
        ("ppo.kl_horizon=5000", "ppo.kl_horizon=5000: has no effect with ppo.kl_target=null"),
        (f"ppo.reward_device=cpu {NONE}", "ppo.reward_device=cpu: has no effect with reward.kind=function"),
        (f"rm.epochs=2 {NONE}", "rm.epochs=2: has no effect on what is trained here: sft, ppo"),
        ("stage=sft reward_lora=dim8", "reward_lora=dim8: has no effect on what is trained here: sft"),
        ("stage=sft rm.epochs=2", "rm.epochs=2: has no effect on what is trained here: sft"),
        ("stage=sft ppo=trl", "ppo=trl: has no effect on what is trained here: sft"),
        ("early_stop.goal=maximize", "has no effect with early_stop.metric=null"),
        ("early_stop.min_delta=1", "has no effect without early_stop.patience or ppo.keep_best"),
        ("lora.alpha=3", "lora.alpha=3: has no effect with lora.dim=0"),
        ("sft.schedule_power=2", "has no effect with sft.schedule=cosine"),
        ("deepspeed.reduce_bucket_size=9", "has no effect with zero=none"),
        ("sweep.parallel=2", "has no effect on one run"),
        ("chat.seed=2", "has no effect on a run"),
    ],
)
def test_a_setting_without_effect_is_named(typed: str, why: str) -> None:
    (line,) = told(typed)
    assert why in line


@pytest.mark.parametrize(
    "typed",
    [
        "experiment=tiny_assistant",  # what a recipe sets, nobody typed
        "ppo.ptx_coef=0.1 ppo.ptx_data=pretrain",
        "rm.epochs=2 sft.epochs=2 reward_lora=dim8 lora=dim8 lora.alpha=3",
        "reward.members=2 reward.pessimism=deviation reward.disagreement_coef=2",
        "sft.schedule=polynomial sft.schedule_power=2",
        "early_stop.patience=2 early_stop.min_delta=1 ppo.eval_every=1 early_stop.metric=reward/gain early_stop.goal=maximize",
    ],
)
def test_a_setting_with_effect_is_not(typed: str) -> None:
    assert told(typed) == []


@pytest.mark.parametrize(
    "typed", ["ppo.ptx_coef=0,0.1 ppo.ptx_data=pretrain", "lora=none,dim8 lora.alpha=3", "sweep.parallel=2 seed=1,2"]
)
def test_what_may_have_an_effect_in_another_cell_is_not_named(typed: str) -> None:
    assert told(typed, study=True) == []


def test_a_study_names_what_no_cell_reads() -> None:
    (line,) = told("seed=1,2 stage=sft ppo.updates=3", study=True)
    assert line.startswith("ppo.updates=3: has no effect")


@pytest.mark.parametrize(
    "typed",
    [
        "stage=sft sft.max_steps=9 sft.epochs=1,2",
        "sweep=tune_sft sft.max_steps=9",  # whose space has the epochs
    ],
)
def test_a_study_names_swept_epochs_that_end_with_a_number_of_steps(typed: str) -> None:
    (line,) = told(typed, study=True)
    assert line.startswith("sft.epochs=") and "has no effect with sft.max_steps=9, unless that is more steps" in line


def test_a_study_names_what_its_space_searches_in_vain() -> None:
    run = composed("stage=sft")
    searched = {"sft.schedule_power": "choice(1,2)", "sft.learning_rate": "1e-3,1e-4"}
    run = replace(run, sweep=replace(run.sweep, space=searched))
    (line,) = idle.settings(run, ["stage=sft"], True)
    assert line == "sft.schedule_power=choice(1,2): has no effect with sft.schedule=cosine"
    under = replace(run, sweep=replace(run.sweep, only_if={"sft.schedule_power": "sft.schedule=polynomial"}))
    assert idle.settings(under, ["stage=sft"], True) == []
