"""Differences of metrics: over prompts, over pairs, over seeds, or with no interval, each worked by hand."""

import json
import math
from pathlib import Path

import pytest

from rlhf.compare import comparison, find, terminal
from rlhf.compare.comparison import Comparison
from rlhf.compare.measures import Measure
from tests.compare.made import run

KL = "ppo.kl_coef"
T2, T3 = 4.30265, 3.18245


def compared(*folders: Path) -> Comparison:
    return comparison.compare(*find.subjects([str(folder) for folder in folders], None))


def measure(found: Comparison, metric: str) -> Measure:
    return next(each for each in found.measures if each.metric == metric)


def asked(*answers: str) -> list[dict[str, str | float]]:
    return [{"round": 4, "prompt": f"Question {at}?", "response": text, "score": 1.0} for at, text in enumerate(answers)]


def test_the_same_prompts_are_paired(tmp_path: Path) -> None:
    scores = [{"round": 0, "score": [0.0, 0.0, 0.0, 0.0]}, {"round": 4, "score": [1.0, 2.0, 3.0, 4.0], "gold": [1, 1, 1, 1]}]
    better = [{"round": 0, "score": [0.0, 0.0, 0.0, 0.0]}, {"round": 4, "score": [2.0, 4.0, 6.0, 8.0], "gold": [1, 2, 1, 0]}]
    metrics = {"reward/gain": 2.5, "reward/gold_mean": 1.0}
    one = run(tmp_path / "a", scores=scores, samples=asked("x", "y"), metrics=metrics)
    two = run(tmp_path / "b", {KL: 0.2}, scores=better, samples=asked("z", "y"), metrics={**metrics, "reward/gain": 5.0})
    found = compared(one, two)
    gain = measure(found, "reward/gain").differences[0]
    half = T3 * math.sqrt(5 / 3 / 4)  # differences 1, 2, 3, 4
    assert gain.interval is not None and gain.verdict == "higher"
    assert terminal.verdict("reward/gain", gain) == "higher, better"
    assert terminal.verdict("eval/loss", gain) == "higher, worse" and terminal.verdict("eval/kl", gain) == "higher"
    assert (gain.interval.low, gain.interval.high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-4)
    gold = measure(found, "reward/gold_mean").differences[0]
    assert gold.verdict == "not distinguishable" and gold.interval is not None
    assert gold.interval.high == pytest.approx(T3 * math.sqrt(2 / 3 / 4), abs=1e-4)  # differences 0, 1, 0, -1
    assert [[answer.text for answer in each.answers] for each in found.exchanges] == [["x", "z"], ["y", "y"]]


def test_other_prompts_are_not_paired(tmp_path: Path) -> None:
    scores = [{"round": 4, "gold": [1.0, 2.0]}]
    one = run(tmp_path / "a", scores=scores, samples=asked("x"), metrics={"reward/gold_mean": 1.5})
    moved = [{**asked("x")[0], "prompt": "Another?"}]
    two = run(tmp_path / "b", {KL: 0.2}, scores=scores, samples=moved, metrics={"reward/gold_mean": 1.5})
    found = compared(one, two)
    assert measure(found, "reward/gold_mean").differences[0].verdict == "not comparable"
    assert "other prompts in samples.jsonl" in found.remarks[0] and found.exchanges == []


def test_pairs_of_a_reward_model(tmp_path: Path) -> None:
    def pairs(*chosen: float) -> dict[str, object]:
        scores = [{"round": 4, "chosen": list(chosen), "rejected": [0.0] * len(chosen)}]
        row = {"round": 4, "prompt": "P", "chosen": "c", "rejected": "r", "score_chosen": chosen[0], "score_rejected": 0.0}
        right = sum(value > 0 for value in chosen) / len(chosen)
        return {"scores": scores, "samples": [row], "metrics": {"eval/accuracy": right}}

    one = run(tmp_path / "a", stage="rm", **pairs(1.0, -1.0, -1.0, 1.0))
    two = run(tmp_path / "b", {"rm.epochs": 2.0}, stage="rm", **pairs(1.0, 1.0, 1.0, 1.0))
    found = measure(compared(one, two), "eval/accuracy").differences[0]
    half = T3 * math.sqrt(1 / 3 / 4)  # 0, 1, 1, 0: mean 0.5, variance 1/3
    assert found.interval is not None and found.interval.method == "paired over 4 pairs"
    assert found.interval.low == pytest.approx(0.5 - half, abs=1e-4)


def test_a_loss_over_tokens_is_paired_over_demonstrations(tmp_path: Path) -> None:
    def losses(tokens: list[float], *values: float) -> dict[str, object]:
        mean = sum(value * count for value, count in zip(values, tokens, strict=True)) / sum(tokens)
        scores = [{"round": 4, "loss": list(values), "tokens": tokens}]
        return {"scores": scores, "samples": asked("x"), "metrics": {"eval/loss": mean}}

    one = run(tmp_path / "a", stage="sft", **losses([30.0, 10.0], 1.0, 1.0))
    two = run(tmp_path / "b", {"sft.epochs": 4.0}, stage="sft", **losses([30.0, 10.0], 2.0, 5.0))
    found = measure(compared(one, two), "eval/loss").differences[0]
    half = 12.7062 * math.sqrt(2 * 1.125**2 / 2)  # 0.625 and 2.875 around 1.75
    assert found.interval is not None and found.value == 1.75 == measure(compared(one, two), "eval/loss").means[1] - 1.0
    assert found.interval.high == pytest.approx(1.75 + half, abs=1e-3)
    other = run(tmp_path / "c", {"sft.epochs": 4.0}, stage="sft", **losses([20.0, 20.0], 2.0, 5.0))
    assert measure(compared(one, other), "eval/loss").differences[0].why == "one run a side, counted in other tokens"


def test_runs_that_differ_in_their_seed_are_one_side(tmp_path: Path) -> None:
    sides = [{"seed": seed, KL: kl} for kl in (0.1, 0.2) for seed in (1, 2, 3)]
    values = [1.0, 2.0, 3.0, 2.0, 3.0, 7.0]
    folders = [
        run(tmp_path / f"r{at}", side, metrics={"reward/gold_mean": value})
        for at, (side, value) in enumerate(zip(sides, values, strict=True))
    ]
    found = compared(*folders)
    assert [group.seeds for group in found.groups] == [[1, 2, 3], [1, 2, 3]]
    gold = measure(found, "reward/gold_mean")
    assert gold.means == [2.0, 4.0]
    assert gold.spreads[0] == pytest.approx((2 - T2 / math.sqrt(3), 2 + T2 / math.sqrt(3)), abs=1e-4)
    difference = gold.differences[0]  # 1, 1, 4: mean 2, variance 3, standard error 1
    assert difference.interval is not None and difference.interval.method == "paired over 3 seeds"
    assert (difference.interval.low, difference.interval.high) == pytest.approx((2 - T2, 2 + T2), abs=1e-4)
    assert difference.verdict == "not distinguishable"
    assert found.verdict.sentence == "They differ in ppo.kl_coef (0.1, 0.2) alone."


def test_seeds_alone_stay_apart(tmp_path: Path) -> None:
    found = compared(run(tmp_path / "a"), run(tmp_path / "b", {"seed": 2}))
    assert len(found.groups) == 2 and "The seed alone differs" in found.remarks[0]


def test_one_run_a_side_without_scores_has_no_interval(tmp_path: Path) -> None:
    one = run(tmp_path / "a", stage="sft", metrics={"eval/loss": 2.0, "response/repetition": 0.0})
    two = run(tmp_path / "b", {"sft.epochs": 4.0}, stage="sft", metrics={"eval/loss": 1.5, "response/repetition": 0.0})
    found = compared(one, two)
    loss = measure(found, "eval/loss").differences[0]
    assert (loss.value, loss.verdict, loss.interval, loss.why) == (
        -0.5,
        "no interval",
        None,
        "one run a side, no scores of single prompts",
    )
    assert measure(found, "response/repetition").differences[0].verdict == "equal"


def test_runs_of_different_stages_share_what_they_share(tmp_path: Path) -> None:
    one = run(tmp_path / "a", stage="sft", metrics={"eval/loss": 2.0, "response/repetition": 0.0})
    found = compared(one, run(tmp_path / "b", metrics={"reward/gain": 1.0, "response/repetition": 0.5}))
    assert found.remarks[0] == ("They are runs of different stages (sft, ppo), which share these metrics: response/repetition.")
    assert measure(found, "response/repetition").differences[0].verdict == "not comparable"
    assert measure(found, "run/seconds").differences[0].verdict == "equal"


def test_figures_that_are_not_finite_are_null(tmp_path: Path) -> None:
    one = run(tmp_path / "a", metrics={"reward/gain": math.nan, "eval/kl": math.inf})
    content = comparison.content(compared(one, run(tmp_path / "b", {KL: 0.2}, metrics={"reward/gain": 1.0, "eval/kl": 1.0})))
    told = json.loads(json.dumps(content, allow_nan=False))
    assert {each["metric"]: each["values"]["A"] for each in told["metrics"]}["reward/gain"] is None
    assert told["metrics"][0]["differences"][0]["verdict"] == "no interval"
