"""The whole way: a study typed in a shell, with real trials, in a folder that is not the checkout's."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import rlhf

ROOT = Path(rlhf.__file__).parent.parent
COMMAND = [sys.executable, "-m", "rlhf", "-m", "stage=sft", "debug=smoke", "sweep.name=s"]
GRID = ["sft.learning_rate=1e-3,1e30", "model.arch.ffn_size=64,100000000000"]


def rlhf_command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "outputs/studies/s/trials.csv").open(newline="") as content:
        return list(csv.DictReader(content))


def test_nan_and_memory_are_rows_and_nothing_runs_twice(tmp_path: Path) -> None:
    first = rlhf_command(tmp_path, *GRID)
    assert first.returncode == 0, first.stderr
    ends = [(row["sft.learning_rate"], row["model.arch.ffn_size"], row["status"], row["reason"]) for row in rows(tmp_path)]
    assert ends == [
        ("0.001", "64", "finished", ""),
        ("0.001", "100000000000", "infeasible", "oom"),
        ("1e+30", "64", "failed", "nan"),
        ("1e+30", "100000000000", "infeasible", ends[3][3]),
    ]
    assert ends[3][3] in ("oom", "dominated by #1")  # as the second may have ended before it was its turn
    finished = rows(tmp_path)[0]
    assert float(finished["objective"]) == float(finished["eval/loss"]) > 0
    assert (tmp_path / finished["run_folder"] / "result.json").is_file()
    runs = [each.parent for each in (tmp_path / "outputs/runs").glob("*/result.json")]
    assert len(runs) >= 2 and all((each / "report.html").is_file() for each in runs)

    logs = sorted((tmp_path / "outputs/studies/s/trials").glob("*/log.txt"))
    before = [(log.stat().st_mtime_ns, log.stat().st_size) for log in logs]
    second = rlhf_command(tmp_path, *GRID)
    assert second.returncode == 0, second.stderr
    assert "started" not in second.stdout and len(before) == (4 if ends[3][3] == "oom" else 3)
    assert [(log.stat().st_mtime_ns, log.stat().st_size) for log in logs] == before


def test_a_fault_in_one_cell_starts_none(tmp_path: Path) -> None:
    ended = rlhf_command(tmp_path, "sft.micro_batch_size=4,3")
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert "cell sft.micro_batch_size=3" in ended.stderr
    assert not (tmp_path / "outputs").exists()
