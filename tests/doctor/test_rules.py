"""Each rule names what it is for, on a record that shows it, and nothing on a healthy one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.doctor import command
from rlhf.doctor.examine import RULES, examine
from rlhf.doctor.finding import Finding, History, Severity
from rlhf.report.folder import RunFolder, read

Rows = list[dict[str, Any]]
CONFIG = "rollout: {top_p: 1.0}\nppo: {reward_clip: null}\n"


def record(folder: Path, stage: str, rows: Rows, config: str = CONFIG) -> RunFolder:
    """A run of ``stage`` whose rows come one a round; those with a metric of evaluations are evaluations."""
    path = folder / f"{stage}-tiny-00000000"
    path.mkdir()
    (path / "config.yaml").write_text(config)
    held_out = ("eval/", "reward/", "response/")
    kinds = ["eval" if any(name.startswith(held_out) for name in row) else "train" for row in rows]
    lines = [{"round": at, "kind": kind, "seconds": 0.0, **row} for at, (kind, row) in enumerate(zip(kinds, rows, strict=True))]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = {
        "status": "finished",
        "stage": stage,
        "model": "tiny",
        "run_signature": "0",
        "result_signature": "0",
        "metrics": {},
    }
    (path / "result.json").write_text(json.dumps(result))
    return read(path)


SICK: list[tuple[str, str, Rows]] = [
    ("kl-not-zero-at-start", "ppo", [{"eval/kl": 0.4}]),
    ("negative-entropy", "ppo", [{"objective/entropy": 3.0}, {"objective/entropy": -0.1}]),
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
    ("critic-misleads", "ppo", [{"val/explained_variance": 0.5}, {"val/explained_variance": -0.5}]),
    (
        "likelihood-displaced",
        "dpo",
        [{"logps/chosen": -20.0, "logps/rejected": -20.0}, {"logps/chosen": -40.0, "logps/rejected": -90.0}],
    ),
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
    {"loss": 0.6, "objective/scores": 1.5},
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


@pytest.mark.parametrize("stage", ["pretrain", "sft", "rm", "ppo", "dpo"])
def test_healthy_figures_are_passed_over(stage: str, tmp_path: Path) -> None:
    assert examine(record(tmp_path, stage, HEALTHY)) == []


def test_settings_count_too(tmp_path: Path) -> None:
    config = "rollout: {top_p: 0.9}\nppo: {reward_clip: 2.0}\n"
    found = examine(record(tmp_path, "ppo", [{"objective/scores": 1.95}], config))
    assert {each.name for each in found} == {"scores-at-the-clip", "sampled-from-another-distribution"}
    (tmp_path / "again").mkdir()
    assert examine(record(tmp_path / "again", "sft", [{"objective/scores": 1.95}], config)) == []


def test_every_rule_is_shown_to_fire(tmp_path: Path) -> None:
    fired: set[Callable[..., Any]] = set()
    for number, (_, stage, rows) in enumerate(SICK):
        (tmp_path / str(number)).mkdir()
        history = History.of(record(tmp_path / str(number), stage, rows))
        fired |= {rule for rule in RULES if list(rule(history))}
    assert {rule.__name__ for rule in RULES if rule not in fired} == {"scores", "sampling"}  # which ask for a setting


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
