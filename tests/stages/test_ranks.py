"""Stages on two ranks, from the shell: stopped and gone on with, one of them killed, and faults that only ranks can see."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = (
    *("stage=sft", "debug=smoke", "data.sources.demonstrations.cap=200", "sft.micro_batch_size=2"),
    *("sft.max_steps=16", "sft.log_every=2", "sft.save_every=5", "zero=2", "ranks=2"),
    *("evaluation.examples=8", "evaluation.prompts=2", "evaluation.samples=1"),
)


def start(outputs: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rlhf", *SMALL, f"paths.outputs={outputs}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_folder(outputs: Path) -> Path:
    (found,) = (outputs / "runs").glob("sft-*")
    return found


def ranks_of(outputs: Path) -> list[int]:
    """Process ids of the ranks that work in ``outputs``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
        except OSError:  # it ended while we looked
            continue
        if "rlhf.rank" in words and "rlhf.agent" not in words and any(word.startswith(str(outputs)) for word in words):
            found.append(int(process.name))
    return sorted(found)


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    for _ in range(12_000):
        if ready():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError("two minutes and not ready")


def trains(outputs: Path) -> Callable[[], bool]:
    return lambda: any('"train"' in file.read_text() for file in (outputs / "runs").glob("sft-*/metrics.jsonl"))


@pytest.mark.slow
def test_ctrl_c_reaches_all_ranks_and_the_same_command_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = start(tmp_path / "whole")
    assert whole.wait() == 0, whole.communicate()[0]

    stopped = start(tmp_path / "stopped")
    wait_for(stopped, trains(tmp_path / "stopped"))
    stopped.send_signal(signal.SIGINT)
    output, _ = stopped.communicate(timeout=120)
    assert stopped.returncode == 75, output
    assert "The same command goes on from there" in output

    again = start(tmp_path / "stopped")
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "going on after" in output, output
    first, second = run_folder(tmp_path / "whole"), run_folder(tmp_path / "stopped")
    assert first.name == second.name
    assert (first / "artifact/model.safetensors").read_bytes() == (second / "artifact/model.safetensors").read_bytes()


def test_a_lost_rank_ends_the_run_as_such_and_leaves_nobody_behind(tmp_path: Path) -> None:
    process = start(tmp_path, "sft.max_steps=2000", "sft.epochs=1000")
    wait_for(process, trains(tmp_path))
    assert len(ranks_of(tmp_path)) == 2
    os.kill(ranks_of(tmp_path)[-1], signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    result = json.loads((run_folder(tmp_path) / "result.json").read_text())
    assert (result["status"], result["reason"]) == ("failed", "rank_lost")
    assert ranks_of(tmp_path) == []


def test_ranks_do_not_outlive_the_command(tmp_path: Path) -> None:
    process = start(tmp_path, "sft.max_steps=2000", "sft.epochs=1000")
    wait_for(process, trains(tmp_path))
    process.kill()
    process.wait()
    for _ in range(1000):
        if not ranks_of(tmp_path):
            return
        time.sleep(0.01)
    pytest.fail("ranks still work ten seconds after the command was killed")


def test_a_fault_that_a_rank_finds_is_shown_as_one(tmp_path: Path) -> None:
    process = start(tmp_path, "lora.dim=4", "lora.targets=[nonsense]")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "Traceback" not in output, output
    assert "lora.targets=['nonsense']: llama has no such layers" in output
    assert list((tmp_path / "runs").iterdir()) == []
