"""A run stopped by Ctrl-C says how to go on, goes on, and ends with the same bytes of weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMON = (
    "debug=smoke",
    "data.sources.demonstrations.cap=200",
    "data.sources.preferences.cap=200",
    "sft.max_steps=40",
    "rm.max_steps=40",
    "ppo.updates=20",
)


def command(stage: str, outputs: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "rlhf",
        f"stage={stage}",
        *COMMON,
        f"{stage}.log_every=5",
        f"{stage}.save_every=7",
        f"paths.outputs={outputs}",
    ]


def run_folder(stage: str, outputs: Path) -> Path:
    (found,) = (outputs / "runs").glob(f"{stage}-*")
    return found


@pytest.mark.parametrize("stage", ["sft", "rm", "ppo"])
def test_a_stopped_run_goes_on_to_the_same_bytes(stage: str, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run(command(stage, whole), cwd=ROOT, env=environment, check=True, capture_output=True)
    if stage != "sft":  # start from the same parents, so that the signal meets the stage itself
        subprocess.run(["cp", "-r", str(whole), str(stopped)], check=True)
        subprocess.run(["rm", "-rf", str(run_folder(stage, stopped))], check=True)

    process = subprocess.Popen(
        command(stage, stopped), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while not list((stopped / "runs").glob(f"{stage}-*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    while "train" not in run_folder(stage, stopped).joinpath("metrics.jsonl").read_text() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert "The same command goes on from there" in output
    result = json.loads((run_folder(stage, stopped) / "result.json").read_text())
    assert (result["status"], result["reason"]) == ("stopped", "interrupted")

    again = subprocess.run(command(stage, stopped), cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert "going on after" in again.stdout
    first, second = run_folder(stage, whole), run_folder(stage, stopped)
    assert first.name == second.name
    for weights in sorted((first / "artifact").glob("*.safetensors")):
        assert weights.read_bytes() == (second / "artifact" / weights.name).read_bytes()
    assert evaluations(first) == evaluations(second)


def evaluations(folder: Path) -> list[dict[str, float]]:
    """The rows of evaluations, without what measures time."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows if row["kind"] == "eval"]
