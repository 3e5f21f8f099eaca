"""The command inside of `torchrun` and `deepspeed`: one of the processes does the work, on ranks of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf.outside import Launcher, without_local_rank

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "rlhf"]
DEEPSPEED = [sys.executable, "-m", "deepspeed.launcher.runner", "--num_gpus=2", "--module", "rlhf"]
SMALL = (
    *("stage=sft", "debug=smoke", "data.sources.demonstrations.cap=200", "sft.micro_batch_size=2"),
    *("zero=1", "tracker=none", "evaluation.examples=4"),
)


def start(launcher: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*launcher, *SMALL, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, DEEPSPEED], ids=["torchrun", "deepspeed"])
def test_one_of_the_outer_processes_does_the_run_on_its_own_ranks(launcher: list[str], tmp_path: Path) -> None:
    ended = start(launcher, "ranks=2", f"paths.outputs={tmp_path}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("The model is in") == 1
    (result,) = (json.loads(file.read_text()) for file in tmp_path.glob("runs/sft-*/result.json"))
    assert (result["status"], result["reason"]) == ("finished", "")


def test_another_number_of_ranks_is_a_fault(tmp_path: Path) -> None:
    ended = start(TORCHRUN, f"paths.outputs={tmp_path}")
    assert ended.returncode != 0
    assert ended.stderr.count("ranks=1: 2 processes were started around the command; say ranks=2") == 1
    assert not (tmp_path / "runs").exists()


def test_what_a_launcher_set_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    assert Launcher.left() == Launcher(rank=1, processes=4, here=2)
    assert not {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
    assert "4 processes on several machines" in Launcher(1, 4, 2).faults(4)[0]
    assert Launcher.left() is None


def test_a_lone_variable_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Launcher.left() is None and os.environ["RANK"] == "3"


def test_the_local_rank_that_deepspeed_adds_is_passed_over() -> None:
    assert without_local_rank(["--local_rank=1", "stage=sft", "--local-rank=0"]) == ["stage=sft"]
