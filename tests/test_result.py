"""How a run ends, on disk and as an exit code."""

import json
import math
from pathlib import Path

import pytest

from rlhf.result import EXIT_CODES, Result, Status

RESULT = Result(Status.finished, "sft", "tiny", "1234abcd", "0123456789abcdef", metrics={"loss": 0.5}, parents={"sft": "a"})


def test_a_result_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(RESULT.to_json())
    assert Result.load(path) == RESULT
    assert json.loads(path.read_text())["status"] == "finished"
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path / "nowhere")


def test_numbers_that_are_not_finite_survive_strict_json(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    ends = {"a": math.nan, "b": math.inf, "c": -math.inf}
    path.write_text(Result(Status.failed, "sft", "tiny", "", "", reason="nan", metrics=ends).to_json())
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    metrics = Result.load(path).metrics
    assert math.isnan(metrics["a"]) and (metrics["b"], metrics["c"]) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("status", "code"), [("finished", 0), ("failed", 1), ("infeasible", 3), ("stopped", 75), ("pruned", 0), ("lost", 1)]
)
def test_exit_codes(status: str, code: int) -> None:
    assert Result(Status[status], "sft", "tiny", "", "").exit_code == code
    assert set(EXIT_CODES) == set(Status)
