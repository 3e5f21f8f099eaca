"""A run stopped by Ctrl-C says how to go on, goes on, and ends with the same bytes of weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    *("debug=smoke", "data.sources.demonstrations.cap=200", "data.sources.preferences.cap=200", "data.sources.prompts.cap=200"),
    *("sft.max_steps=40", "rm.max_steps=40", "dpo.max_steps=40", "kto.max_steps=40", "ppo.updates=20", "grpo.updates=20"),
    "best_of_n.updates=20",
    *(f"{stage}.log_every=5" for stage in ("sft", "rm", "dpo", "kto", "ppo", "grpo", "best_of_n")),
    *(f"{stage}.save_every=7" for stage in ("sft", "rm", "dpo", "kto", "ppo", "grpo", "best_of_n")),
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(stage: str, outputs: Path) -> list[str]:
    return [sys.executable, "-m", "rlhf", f"stage={stage}", *SMALL, f"paths.outputs={outputs}"]


def run_folder(stage: str, outputs: Path) -> Path:
    (found,) = (outputs / "runs").glob(f"{stage}-*")
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole chain, never stopped."""
    outputs = tmp_path_factory.mktemp("whole")
    subprocess.run(command("ppo", outputs), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return outputs


@pytest.mark.parametrize(
    "stage",
    ["ppo", *(pytest.param(stage, marks=pytest.mark.slow) for stage in ("sft", "rm", "dpo", "kto", "grpo", "best_of_n"))],
)
def test_a_stopped_run_goes_on_to_the_same_bytes(stage: str, whole: Path, tmp_path: Path) -> None:
    if stage in ("dpo", "kto", "grpo", "best_of_n"):  # which are no part of that chain
        subprocess.run(command(stage, whole), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    stopped = tmp_path / "stopped"
    shutil.copytree(whole, stopped)  # start from the same parents, so that the signal meets the stage itself
    shutil.rmtree(run_folder(stage, stopped))

    process = subprocess.Popen(
        command(stage, stopped), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_until(
        process, lambda: any('"train"' in file.read_text() for file in (stopped / "runs").glob(f"{stage}-*/metrics.jsonl"))
    )
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 75, output
    assert "The same command goes on from there" in output
    result = json.loads((run_folder(stage, stopped) / "result.json").read_text())
    assert (result["status"], result["reason"]) == ("stopped", "interrupted")

    again = subprocess.run(command(stage, stopped), cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert "going on after" in again.stdout
    first, second = run_folder(stage, whole), run_folder(stage, stopped)
    assert first.name == second.name
    for weights in sorted((first / "artifact").glob("*.safetensors")):
        assert weights.read_bytes() == (second / "artifact" / weights.name).read_bytes()
    assert evaluations(first) == evaluations(second)
    assert [file.read_bytes() for file in first.glob("kept.jsonl")] == [file.read_bytes() for file in second.glob("kept.jsonl")]
    for folder in (first, second):
        told = json.loads((folder / "result.json").read_text())["metrics"]["perf/tokens_per_second"]
        assert told == pytest.approx(speed(folder), rel=1e-6)


def wait_until(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    """Return when ``ready`` holds; the process must not end before."""
    for _ in range(12_000):
        if ready():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("two minutes and not ready")


def speed(folder: Path) -> float:
    """Tokens a second of all rows of training."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert len(trained) > 2
    return float(trained[-1]["progress/tokens"]) / sum(
        value for row in trained for name, value in row.items() if name.startswith("time/")
    )


def evaluations(folder: Path) -> list[dict[str, float]]:
    """The rows of evaluations, without what measures time and memory."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = [row for row in rows if row["kind"] == "eval"]
    return [{key: row[key] for key in row if key != "seconds" and not key.startswith(("time/", "mem/"))} for row in measured]
