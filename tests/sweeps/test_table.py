"""The rows of a study."""

import csv
from pathlib import Path

from rlhf.constraint import Constraint
from rlhf.result import Objective, Result, Status
from sweeps import table
from sweeps.goal import Goal
from sweeps.record import Entry
from sweeps.table import Ended

LOSS = Goal((Objective("eval/loss", "minimize"),), ())


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
    table.write(tmp_path / "trials.csv", list(map(Ended, entries, results)), LOSS)
    with (tmp_path / "trials.csv").open(newline="") as content:
        header, *lines = csv.reader(content)
    assert header[:4] == ["number", "zero", "seed", "model"]
    assert header[4:] == [*table.BEFORE_METRICS, "b", "eval/loss", *table.AFTER_METRICS]
    assert lines[0][:8] == ["0000", "none", "3", "", "finished", "", "", "2.0"]
    assert lines[1][header.index("b")] == "1e-07" and lines[1][header.index("cost_usd")] == "0.5"
    assert lines[2][header.index("objective")] == ""


def test_messages_cannot_break_a_terminal_or_a_spreadsheet(tmp_path: Path) -> None:
    end = result(Status.failed, message="=1+1\x1b[2J\u202ex\nsecond")
    (row,) = table.write(tmp_path / "trials.csv", [Ended(entry(0, [], {}, "failed"), end)], LOSS)
    assert row["message"] == "'=1+1[2Jx"


def test_several_objectives_and_a_broken_constraint_are_shown(tmp_path: Path) -> None:
    both = Goal((*LOSS.objectives, Objective("mem/peak_gib", "minimize")), (Constraint.parse("mem/peak_gib <= 4"),))
    end = result(metrics={"eval/loss": 2.5}, peak_memory_gib=5.0)
    (row,) = table.write(tmp_path / "trials.csv", [Ended(entry(0, [], {}), end)], both)
    assert (row["objective"], row["message"]) == ("2.5 5.0", "not mem/peak_gib <= 4")


def test_of_several_seeds_every_run_is_found_and_sums_are_called_so(tmp_path: Path) -> None:
    ends = [
        Ended(entry(0, [], {"a": 1}), result(seconds=4.5, cost_usd=1.5), {1: "runs/x", 2: "runs/y"}),
        Ended(entry(1, [], {"a": 2}, "failed"), result(Status.failed, seconds=1.0, folder="runs/z", seed=3)),
    ]
    first, second = table.write(tmp_path / "trials.csv", ends, LOSS, several=True)
    assert [*first][-6:] == [*table.OF_SEEDS, *(f"run_folder_of_seed_{seed}" for seed in (1, 2, 3))]
    assert [*first.values()][-6:] == ["4.5", "", "1.5", "runs/x", "runs/y", ""]
    assert (second["seconds_of_all_seeds"], second["run_folder_of_seed_3"]) == ("1.0", "runs/z")
