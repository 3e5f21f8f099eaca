"""What the report points at."""

from pathlib import Path
from typing import Any

from rlhf.report import findings
from rlhf.report.folder import RunFolder
from rlhf.result import Result, Status


def run(*rows: dict[str, Any], result: Result | None = None) -> RunFolder:
    metrics = [{"round": at, "kind": "eval", "seconds": 0.0, **row} for at, row in enumerate(rows)]
    return RunFolder(Path("ppo-tiny-0"), result, [], metrics, [], {})


def test_the_end_and_the_first_broken_number_are_problems() -> None:
    ended = Result(Status.failed, "ppo", "tiny", "", "", reason="nan", message="loss is nan")
    found = list(findings.problems(run({"loss": 1.0}, {"loss": "nan"}, {"loss": "nan"}, result=ended)))
    assert found == ["failed (nan): loss is nan", "Not finite in round 1: loss"]
    assert list(findings.problems(run({"loss": 1.0}, result=Result(Status.finished, "ppo", "tiny", "", "")))) == []
