"""Each rule names what it is for, on a record that shows it, and nothing on a healthy one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.doctor import command
from rlhf.doctor.examine import RULES, examine
from rlhf.doctor.finding import Finding, History, Severity
from tests.doctor.made import CONFIG, Rows, record

SICK: list[tuple[str, str, Rows]] = [
    ("kl-not-zero-at-start", "ppo", [{"eval/kl": 0.4}]),
    ("ratio-not-one", "ppo", [{"signs/first_ratio_error": 1e-8}, {"signs/first_ratio_error": 0.02}]),
    ("loss-not-the-advantage", "ppo", [{"signs/first_loss_error": 0.1}]),
    ("padding-gets-credit", "ppo", [{"signs/padding_credit": 0.3}]),
    ("return-beyond-the-end", "ppo", [{"signs/return_end_error": 0.1}]),
    ("score-misplaced", "ppo", [{"signs/score_at_end": 0.9}]),
    ("end-not-learnt", "sft", [{"signs/ends_learnt": 0.5}]),
    ("begin-token-doubled", "rm", [{"signs/begin_doubled": 1.0}]),
    ("padding-learnt", "sft", [{"signs/padding_learnt": 0.2}]),
    ("accumulation-changes-the-loss", "rm", [{"signs/accumulation_error": 0.01}]),
    ("padding-changes-numbers", "rm", [{"signs/padding_error": 0.3}]),
    ("prompt-learnt", "sft", [{"signs/prompt_learnt": 1.0}]),
    ("scores-off-scale", "ppo", [{"eval/score_mean": -2.5}]),
    (
        "policy-equals-reference",
        "ppo",
        [{"policy/approxkl_avg": 0.01, "objective/kl": 0.0}, {"objective/kl": 0.0}, {"objective/kl": 0.0}],
    ),
    ("policy-equals-reference", "dpo", [{"rewards/chosen": 0.0}, {"rewards/chosen": 0.0}, {"rewards/chosen": 0.0}]),
    ("negative-entropy", "ppo", [{"objective/entropy": 3.0}, {"objective/entropy": -0.1}]),
    ("negative-kl", "ppo", [{"objective/kl": -1.0}, {"objective/kl": -1.5}, {"objective/kl": -0.8}]),
    ("sampler-and-training-differ", "ppo", [{"signs/surprise": 0.02, "signs/surprise_z": 5.0}] * 2),
    (
        "sampler-and-training-differ",
        "grpo",
        [{"signs/sampler_error": 1e-6}, {"signs/sampler_error": 1e-3, "signs/surprise": 0.02, "signs/surprise_z": 9.0}],
    ),
    ("sampled-from-another-distribution", "rloo", [{"signs/mass_cut": 0.0}, {"signs/mass_cut": 0.03}]),
    ("reward-not-received", "ppo", [{"signs/token_rewards": 0.0, "objective/rlhf_reward": 1.0}]),
    ("whitening-wrong", "ppo", [{"signs/advantage_mean": 0.2, "signs/advantage_sd": 1.0}]),
    ("whitening-wrong", "ppo", [{"signs/advantage_mean": 0.0, "signs/advantage_sd": 1.2}]),
    (
        "entropy-of-padding",
        "ppo",
        [{"kind": "train", "objective/entropy": 20.0, "response/length_mean": 20.0, "policy/entropy_avg": 0.5}],
    ),
    ("ends-miscounted", "ppo", [{"response/eos_rate": 0.9}, {"kind": "train", "response/eos_rate": 0.0}]),
    ("identical-pairs", "rm", [{"signs/ties": 0.1}, {"signs/ties": 0.2}]),
    ("no-gradient", "sft", [{"grad_norm/policy": 0.0}, {"grad_norm/policy": 0.0}]),
    (
        "penalty-is-not-the-kl",
        "ppo",
        [{"objective/kl": 4.0, "objective/kl_coef": 0.1, "objective/non_score_reward": -0.2}],
    ),
    ("learning-rate-off", "sft", [{"learning_rate/policy": each} for each in (0.01, 0.005, 0.0, 0.0, 0.0)]),
    (
        "critic-starts-biased",
        "ppo",
        [{"val/value_bias": bias, "val/explained_variance": explained} for bias, explained in ((-6.0, -1.0), (0.1, 0.5))],
    ),
    (
        "critic-starts-biased",
        "ppo",
        [{"val/value_bias": 0.0, "val/explained_variance": explained} for explained in (-30.0, 0.5)],
    ),
    ("steps-too-large", "ppo", [{"policy/approxkl_avg": each} for each in (2.0, 0.0, 0.0, 0.0)]),
    ("score-follows-length", "ppo", [{"objective/length_correlation": 0.95}]),
    ("prefers-the-worse", "rm", [{"eval/accuracy_high/a": 0.45}]),
    ("entropy-collapse", "ppo", [{"objective/entropy": 20.0}, {"objective/entropy": 0.5}]),
    ("over-optimised", "ppo", [{"reward/gain_low": 0.1, "reward/gain_high": 0.3, "reward/gold_gain_high": -0.2}]),
    ("no-gain", "ppo", [{"reward/gain_low": -0.1, "reward/gain_high": 0.3}]),
    ("far-from-start", "ppo", [{"eval/kl": 0.0}, {"eval/kl": 80.0}]),
    ("repetition", "ppo", [{"response/repetition": 0.3, "response/repetition_sft": 0.1}]),
    ("one-answer-for-all", "ppo", [{"response/distinct_2": 0.1, "response/distinct_2_sft": 0.5}]),
    ("length-grows", "ppo", [{"response/length_mean": 20.0}, {"response/length_mean": 50.0}]),
    ("answers-cut-off", "sft", [{"response/eos_rate": 0.25}]),
    ("steps-too-large", "ppo", [{"policy/clipfrac_avg": 0.5, "policy/approxkl_avg": 0.01}]),
    ("steps-too-large", "ppo", [{"policy/clipfrac_avg": 0.1, "policy/approxkl_avg": 0.2}]),
    ("critic-diverges", "ppo", [{"loss/value_avg": 0.5}, {"loss/value_avg": 5.0}, {"loss/value_avg": 0.4}]),
    ("critic-misleads", "ppo", [{"val/explained_variance": 0.5}, {"val/explained_variance": -0.5}]),
    (
        "likelihood-displaced",
        "dpo",
        [{"logps/chosen": -20.0, "logps/rejected": -20.0}, {"logps/chosen": -40.0, "logps/rejected": -90.0}],
    ),
    ("kept-not-the-best", "best_of_n", [{"signs/kept_error": 0.0}, {"signs/kept_error": 0.4}]),
    ("reference-point-of-own-answers", "kto", [{"signs/own_answers": 0.0}, {"signs/own_answers": 1.0}]),
    ("labels-unbalanced", "kto", [{"kto/good": 0.9}, {"kto/good": 0.7}]),
    ("overfitting", "sft", [{"eval/loss": 2.0}, {"eval/loss": 1.0}, {"eval/loss": 1.5}]),
    ("nothing-learnt", "sft", [{"loss": 2.0}, {"loss": 2.1}, {"loss": 2.0}, {"loss": 2.05}]),
    ("no-better-than-length", "rm", [{"eval/accuracy": 0.5, "baseline/longer_wins": 0.6}]),
    ("miscalibrated", "rm", [{"eval/calibration_error": 0.2, "eval/pairs/a": 60, "eval/pairs/b": 60}]),
    ("length-biased", "rm", [{"eval/length_correlation": 0.7, "baseline/length_correlation": 0.2}]),
]
HEALTHY: Rows = [
    {"eval/kl": 0.0, "response/length_mean": 20.0, "eval/loss": 1.0},
    {"loss": 1.0, "objective/entropy": 20.0, "val/explained_variance": -0.1, "logps/chosen": -20.0, "logps/rejected": -20.0},
    {
        "loss": 0.8,
        "objective/entropy": 15.0,
        "val/explained_variance": 0.5,
        "policy/clipfrac_avg": 0.1,
        "policy/approxkl_avg": 0.01,
    },
    {"loss": 0.7, "objective/entropy": 15.0, "val/explained_variance": 0.6, "logps/chosen": -21.0, "logps/rejected": -30.0},
    {"loss": 0.6, "objective/scores": 1.5, "kto/good": 0.5},
    {
        **{"reward/gain_low": 0.1, "reward/gain_high": 0.3, "reward/gold_gain_high": 0.2, "eval/kl": 4.0, "eval/loss": 1.01},
        **{
            "response/repetition": 0.1,
            "response/repetition_sft": 0.1,
            "response/distinct_2": 0.4,
            "response/distinct_2_sft": 0.5,
        },
        **{"response/length_mean": 22.0, "response/eos_rate": 0.9, "eval/accuracy": 0.7, "baseline/longer_wins": 0.6},
        **{
            "eval/calibration_error": 0.03,
            "eval/pairs/a": 500,
            "eval/length_correlation": 0.3,
            "baseline/length_correlation": 0.2,
        },
    },
]


@pytest.mark.parametrize(("name", "stage", "rows"), SICK, ids=[name for name, _, _ in SICK])
def test_what_is_wrong_is_named_and_nothing_else(name: str, stage: str, rows: Rows, tmp_path: Path) -> None:
    (found,) = examine(record(tmp_path, stage, rows))
    assert found.name == name and found.fix and found.meaning


@pytest.mark.parametrize("stage", ["pretrain", "sft", "rm", "ppo", "dpo", "kto"])
def test_healthy_figures_are_passed_over(stage: str, tmp_path: Path) -> None:
    assert examine(record(tmp_path, stage, HEALTHY)) == []


def test_a_low_number_format_may_round(tmp_path: Path) -> None:
    config = CONFIG.replace("fp32", "bf16")
    rounded = [{"signs/first_ratio_error": 0.02, "signs/sampler_error": 0.03}]
    assert examine(record(tmp_path, "ppo", rounded, config)) == []


CHANCE: list[tuple[str, str, Rows, str, str]] = [
    (
        *("scores-off-scale", "ppo", [{"eval/score_mean": -1.5}]),
        *("ppo: {reward_normalization: reference, normalization_prompts: %d}\nevaluation: {prompts: %d}", "8 256"),
    ),
    (
        *("over-optimised", "rloo", [{"reward/gain_low": 0.1, "reward/gain_high": 0.3, "reward/gold_gain_high": -0.2}]),
        *("evaluation: {prompts: %d}", "8 256"),
    ),
    (
        *("labels-unbalanced", "kto", [{"kto/good": 0.3}, {"kto/good": 0.4}]),
        *("kto: {desirable_weight: 1.0, undesirable_weight: 1.0, batch_size: %d}", "8 256"),
    ),
    (
        *("steps-too-large", "grpo", [{"policy/clipfrac_avg": 0.5, "policy/approxkl_avg": 0.001}]),
        *("grpo: {clip_range: %s}", "3e-4 0.2"),
    ),
    ("miscalibrated", "rm", [{"eval/calibration_error": 0.3, "eval/pairs/a": 600}], "rm: {loss: %s}", "mse pairwise"),
]


@pytest.mark.parametrize(("name", "stage", "rows", "config", "values"), CHANCE, ids=[each[0] for each in CHANCE])
def test_what_chance_or_a_setting_explains_is_no_finding(
    name: str, stage: str, rows: Rows, config: str, values: str, tmp_path: Path
) -> None:
    for value, expected in zip(values.split(), ([], [name]), strict=True):
        (tmp_path / value).mkdir()
        text = re.sub("%[ds]", value, config)
        assert [each.name for each in examine(record(tmp_path / value, stage, rows, text))] == expected


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("split-leak", "environment.json", {"leaked": {"sft": 0.0, "rm": 0.25}}),
        ("pad-is-end", "artifact/tokenizer_config.json", {"pad_token": "</s>", "eos_token": "</s>"}),
    ],
)
def test_what_stands_beside_the_record_counts(name: str, file: str, content: dict[str, Any], tmp_path: Path) -> None:
    run = record(tmp_path, "sft", [{"loss": 1.0}])
    (run.path / file).parent.mkdir(exist_ok=True)
    (run.path / file).write_text(json.dumps(content))
    (found,) = examine(run)
    assert found.name == name


def test_every_rule_is_shown_to_fire(tmp_path: Path) -> None:
    fired: set[Callable[..., Any]] = set()
    for number, (_, stage, rows) in enumerate(SICK):
        (tmp_path / str(number)).mkdir()
        history = History.of(record(tmp_path / str(number), stage, rows))
        fired |= {rule for rule in RULES if list(rule(history))}
    assert {rule.__name__ for rule in RULES if rule not in fired} == {"scores", "ignored", "leaks", "end_token"}


def test_the_verb_tells_and_its_exit_code_says_whether_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sick = record(tmp_path, "ppo", SICK[0][2])
    assert command.main([str(sick.path)]) == command.EXIT_SICK
    assert "error: kl-not-zero-at-start\n  eval/kl is 0.4 nats" in capsys.readouterr().out
    assert command.main([str(sick.path), "--json"]) == command.EXIT_SICK
    (told,) = json.loads(capsys.readouterr().out)["findings"]
    assert (told["name"], told["severity"]) == ("kl-not-zero-at-start", "error")
    (tmp_path / "well").mkdir()
    assert command.main([str(record(tmp_path / "well", "rm", HEALTHY).path)]) == 0
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["a", "b"], ["/nowhere"]])
def test_what_is_no_run_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(words) == 2
    assert capsys.readouterr().err


def test_errors_come_first() -> None:
    assert Severity.error.value < Severity.warning.value
    assert str(Finding("x", Severity.error, "e", "m.", "f.")) == "x: e. m. f."
