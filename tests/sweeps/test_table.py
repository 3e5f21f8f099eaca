"""The rows of a study and the verb that prints them."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.result import Result, Status
from sweeps import objective, table
from sweeps.cells import Entry

Study = Callable[..., int]


def entry(number: int, overrides: list[str], swept: dict[str, object], status: str = "finished") -> Entry:
    return Entry(number, number, f"d{number}", overrides, swept, status, "")


def result(status: Status = Status.finished, stage: str = "sft", **fields: object) -> Result:
    return Result(status, stage, "tiny", "r", "s", **fields)  # type: ignore[arg-type]


def test_columns_are_the_swept_keys_then_what_differs_then_the_end_and_all_metrics(tmp_path: Path) -> None:
    entries = [
        entry(0, ["stage=sft", "seed=3", "zero=none"], {"zero": "none"}),
        entry(1, ["stage=sft", "seed=4", "zero=none", "model=tiny"], {"zero": "none"}),
        entry(2, ["stage=sft", "seed=4", "zero=none", "model=tiny"], {"zero": "none"}),
    ]
    results = [result(metrics={"eval/loss": 2.0}), result(metrics={"eval/loss": 1.0, "b": 1e-7}, cost_usd=0.5), result()]
    rows = [table.row(each, end, "sft") for each, end in zip(entries, results, strict=True)]
    table.write(tmp_path / "trials.csv", entries, rows)
    with (tmp_path / "trials.csv").open(newline="") as content:
        header, *lines = csv.reader(content)
    assert header[:4] == ["number", "zero", "seed", "model"]
    assert header[4:] == [*table.BEFORE_METRICS, "b", "eval/loss", *table.AFTER_METRICS]
    assert lines[0][:8] == ["0000", "none", "3", "", "finished", "", "", "2.0"]
    assert lines[1][header.index("b")] == "1e-07" and lines[1][header.index("cost_usd")] == "0.5"
    assert lines[2][header.index("message")] == "eval/loss is missing or not finite"


def test_messages_cannot_break_a_terminal_or_a_spreadsheet() -> None:
    row = table.row(entry(0, [], {}, "failed"), result(Status.failed, message="=1+1\x1b[2J\u202ex\nsecond"), "sft")
    assert row["message"] == "'=1+1[2Jx"


def test_a_parent_that_failed_is_named() -> None:
    row = table.row(entry(0, [], {}, "failed"), result(Status.failed, stage="sft", message="the loss is nan"), "ppo")
    assert row["message"] == "its stage=sft: the loss is nan"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (result(metrics={"eval/loss": 2.5}), 2.5),
        (result(metrics={"eval/loss": float("nan")}), None),
        (result(metrics={"eval/perplexity": 2.5}), None),
        (result(Status.failed, metrics={"eval/loss": 2.5}), None),
    ],
)
def test_only_a_finished_run_with_a_finite_metric_has_an_objective(end: Result, expected: float | None) -> None:
    assert objective.value("sft", end) == expected


def test_the_verb_prints_the_table(run_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_study("sft.learning_rate=1e-3,1e30")
    capsys.readouterr()
    assert table.main([str(tmp_path / "studies/s")]) == 0
    said = capsys.readouterr().out
    assert "0.001" in said and "failed/nan" in said and "trials.csv" in said


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["no/such/study"]])
def test_the_verb_says_what_it_needs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(arguments) == 2
    assert "study" in capsys.readouterr().err


def test_the_verb_names_the_studies_of_an_outputs_folder(
    run_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_study("sft.learning_rate=1e-3,1e30")
    assert table.main([str(tmp_path)]) == 2
    assert str(tmp_path / "studies/s") in capsys.readouterr().err
