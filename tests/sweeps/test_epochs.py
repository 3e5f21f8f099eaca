"""Measurements by epoch: which evaluation belongs to which, and where each measurement was best."""

import json
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.report import folder
from sweeps import epochs
from tests.stages import small


def write(run: Path, rows: list[dict[str, object]]) -> Path:
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "eval", "prog')
    return run


@pytest.fixture
def overfitted(tmp_path: Path) -> Path:
    measured = [(0, 50.0, -1.0), (1, 10.0, 0.5), (2, 8.0, 2.0), (3, 9.0, 1.0)]
    rows: list[dict[str, object]] = [
        {"round": 5 * epoch, "kind": "eval", "progress/epoch": epoch, "eval/perplexity": perplexity, "eval/score_mean": reward}
        for epoch, perplexity, reward in measured
    ]
    again = {"round": 15, "kind": "eval", "progress/epoch": 3, "eval/perplexity": 8.0}  # of weights that were kept
    return write(tmp_path / "run", [*rows, {"round": 12, "kind": "train", "progress/epoch": 2.4, "loss": 1.0}, again])


def test_each_measurement_is_best_at_an_epoch_of_its_own(overfitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = epochs.passes(overfitted)
    assert [each.epoch for each in found] == [0, 1, 2, 3] and found[3].values["eval/perplexity"] == 9.0
    assert epochs.best(found, "sft") == {"eval/perplexity": 2, "eval/score_mean": 2}
    epochs.show(overfitted, "sft", "0000")
    said = capsys.readouterr().out
    assert "8 *" in said and "2 *" in said and "repetition" not in said
    assert "best: perplexity after 2, reward after 2; of 3 epochs" in said


def test_nothing_is_said_of_a_run_without_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    epochs.show(write(tmp_path / "run", [{"round": 1, "kind": "eval", "eval/score_mean": 1.0}]), "ppo", "0000")
    assert capsys.readouterr().out == ""


def test_an_sft_run_is_evaluated_after_each_epoch_and_scored(tmp_path: Path) -> None:
    judge = chain.execute(small.make_run(tmp_path, "stage=rm"))
    run = small.make_run(
        tmp_path,
        "stage=sft",
        "sft.epochs=2.5",
        "sft.max_steps=null",
        "sft.eval_every_epoch=true",
        f"evaluation.reward_model={judge.folder}",
    )
    result = chain.execute(run)
    assert result.status.name == "finished", result.message
    rows = [row for row in folder.rows(Path(result.folder) / "metrics.jsonl") if row["kind"] == "eval"]
    last = rows[-1]["round"]
    assert [row["round"] for row in rows] == [0, 25, 50, 62]  # 200 rows in batches of 8
    assert [round(row["progress/epoch"], 1) for row in rows] == [0, 1, 2, 2.5]
    assert result.metrics["eval/score_mean"] == rows[-1]["eval/score_mean"] != rows[0]["eval/score_mean"]
    shown = [row["score"] for row in folder.rows(Path(result.folder) / "samples.jsonl") if row["round"] == last]
    assert sum(shown) / len(shown) == pytest.approx(rows[-1]["eval/score_mean"], abs=1e-6)
