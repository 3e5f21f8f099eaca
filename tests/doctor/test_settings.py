"""Settings of which the record shows no effect are named, and others are not."""

from pathlib import Path

import pytest

from rlhf.doctor.examine import examine
from tests.doctor.made import Rows, record


def test_settings_count_too(tmp_path: Path) -> None:
    config = "rollout: {top_p: 0.9, temperature: 0}\nppo: {reward_clip: 2.0}\n"
    found = examine(record(tmp_path, "ppo", [{"objective/score_clipped": 0.7}], config))
    assert {each.name for each in found} == {"scores-at-the-clip", "sampled-from-another-distribution", "sampled-greedily"}
    (tmp_path / "again").mkdir()
    assert examine(record(tmp_path / "again", "sft", [{"loss": 1.0}], config)) == []


STEP = {"kind": "train", "loss": 1.0}
RATE = "learning_rate/policy"
WEIGHED = "kto: {beta: 0.1, desirable_weight: 1.3, undesirable_weight: 1.0}"
FIRST = {"kind": "train", "round": 1, "kto/good": 0.5, "rewards/chosen": 0.5, "rewards/rejected": -0.1}
IGNORED: list[tuple[str, str, str, Rows]] = [
    ("ppo", "ppo.kl_target", "ppo: {kl_target: 1.0}", [{"objective/kl_coef": 0.1}] * 3),
    ("ppo", "ppo.ema_decay", "ppo: {ema_decay: 0.9}", [{"eval/kl": 0.0}] * 2),
    ("ppo", "ppo.ptx_coef", "ppo: {ptx_coef: 1.0}", [{"loss/policy_avg": 0.0}]),
    ("ppo", "ppo.critic_warmup", "ppo: {critic_warmup: 2, log_every: 1}", [{"loss": 0.0}, {"loss/policy_avg": 0.0}]),
    ("ppo", "ppo.kl_coef", "ppo: {kl_coef: 0.1}", [{"objective/kl": 4.0, "objective/non_score_reward": 0.0}]),
    ("rm", "rm.eval_every", "rm: {eval_every: 2}", [STEP, {**STEP, "round": 4}]),
    ("sft", "sft.max_steps", "sft: {max_steps: 2}", [{**STEP, "round": 4}]),
    ("dpo", "dpo.warmup_steps", "dpo: {warmup_steps: 9, learning_rate: 1.0}", [STEP, {**STEP, RATE: 0.9}]),
    ("grpo", "grpo.warmup_steps", "grpo: {warmup_steps: 9, learning_rate: 1.0, inner_epochs: 4}", [STEP, {**STEP, RATE: 0.9}]),
    ("rloo", "early_stop.max_kl", "{rloo: {log_every: 1}, early_stop: {max_kl: 3}}", [{"objective/kl": 4.0}] * 2),
    ("sft", "sft.targets", "sft: {targets: all}", [{"signs/prompt_learnt": 0.0}]),
    ("sft", "sft.legacy_padding_loss", "sft: {legacy_padding_loss: true}", [{"signs/padding_learnt": 0.0}] * 2),
    ("dpo", "dpo.sft_coef", "dpo: {sft_coef: 1.0}", [{"loss": 0.6, "loss/sft_avg": 1.5}]),
    ("rloo", "rollout.max_new_tokens", "rollout: {max_new_tokens: 20}", [{"kind": "train", "response/length_mean": 24.0}]),
    ("grpo", "grpo.reward_clip", "grpo: {reward_clip: 2.0}", [{"signs/surprise": 0.0}]),
    ("kto", "kto.desirable_weight", WEIGHED, [{**FIRST, "loss": 0.5}]),
]


@pytest.mark.parametrize(("stage", "key", "config", "rows"), IGNORED, ids=[f"{stage}-{key}" for stage, key, _, _ in IGNORED])
def test_a_setting_that_leaves_no_trace_is_named(stage: str, key: str, config: str, rows: Rows, tmp_path: Path) -> None:
    (found,) = examine(record(tmp_path, stage, rows, config))
    assert (found.name, found.evidence.partition("=")[0]) == ("setting-without-effect", key)


def test_a_mass_that_is_not_cut_is_named_beside_what_it_was_to_do(tmp_path: Path) -> None:
    found = examine(record(tmp_path, "rloo", [{"signs/mass_cut": 0.0}], "rollout: {top_p: 0.9, temperature: 1.0}"))
    assert {each.name for each in found} == {"setting-without-effect", "sampled-from-another-distribution"}


TRACED: list[tuple[str, str, Rows]] = [
    ("rm", "rm: {eval_every: 2}", [STEP, {"kind": "eval", "round": 2}, {**STEP, "round": 4}]),
    ("dpo", "dpo: {warmup_steps: 9, learning_rate: 1.0}", [STEP, {**STEP, RATE: 0.3}]),
    ("dpo", "dpo: {warmup_steps: 2, learning_rate: 1.0}", [{**STEP, "round": 2, RATE: 1.0}]),
    ("rloo", "{rloo: {log_every: 1}, early_stop: {max_kl: 3}}", [{"objective/kl": 2.0}, {"objective/kl": 4.0}]),
    ("sft", "sft: {targets: all, legacy_padding_loss: true}", [{"signs/prompt_learnt": 1.0}]),
    ("dpo", "dpo: {sft_coef: 1.0}", [{"loss": 2.0, "loss/sft_avg": 1.5}]),
    ("grpo", "grpo: {reward_clip: 2.0}", [{"signs/surprise": 0.0, "objective/score_clipped": 0.0}]),
    ("kto", WEIGHED, [{**FIRST, "loss": 0.575}]),
    ("kto", WEIGHED, [{**FIRST, "loss": 0.5, "round": 2}]),
    ("kto", WEIGHED, [{**FIRST, "kto/reference_point": point, "round": at} for at, point in enumerate((2.0, 3.0), 2)]),
]


@pytest.mark.parametrize(("stage", "config", "rows"), TRACED)
def test_a_setting_that_leaves_its_trace_is_passed_over(stage: str, config: str, rows: Rows, tmp_path: Path) -> None:
    assert examine(record(tmp_path, stage, rows, config)) == []
