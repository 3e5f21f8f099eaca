"""The trial process: typed configuration in, result out, and never longer than its sweeper."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from launchers import pool, trial
from rlhf import config
from rlhf.config import Format, Zero
from rlhf.result import Result, Status
from tests.launchers.conftest import is_alive

sys.path.append(str(Path(pool.__file__).parent))


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    config.register()
    groups = [
        "reward_model=tiny",
        "data=demo",
        "pretrain=tiny",
        "sft=tiny",
        "rm=tiny",
        "ppo=tiny",
        "dpo=tiny",
        "kto=tiny",
        "rloo=tiny",
        "grpo=tiny",
        "best_of_n=tiny",
        "rollout=tiny",
        "evaluation=default",
    ]
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        composed = compose(
            "config",
            ["zero=2", "stage=sft", "sft.learning_rate=1e30", "sft.max_steps=17", "paths.outputs=null_island", *groups],
        )
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(composed, resolve=True))
    return tmp_path


def test_the_frozen_configuration_comes_back_typed(frozen: Path) -> None:
    run = trial.read_config(frozen)
    assert (run.zero, run.stage, run.sft.learning_rate) == (Zero["2"], "sft", 1e30)
    assert run.sft.max_steps == 17 and run.model.path is None
    assert all(isinstance(source.format, Format) for source in run.data.sources.values())


CHAIN = """
import os, time
from pathlib import Path
from rlhf.result import Result, Status

def execute(run, trial=None, pages=True):
    {body}
    return Result(Status.finished, run.stage, run.model.name, "r", "s", metrics={{"eval/loss": float("nan")}})
"""
STAND_IN = """
import sys, types
import rlhf
rlhf.chain = sys.modules["rlhf.chain"] = types.ModuleType("rlhf.chain")
exec(open("chain_stand_in.py").read(), rlhf.chain.__dict__)
from launchers import trial
sys.exit(trial.main(sys.argv[1:]))
"""


def trial_script(frozen: Path, body: str) -> list[str]:
    """The command of a real trial process in which ``rlhf.chain`` is a stand-in; to be run in ``frozen``."""
    (frozen / "chain_stand_in.py").write_text(CHAIN.format(body=body))
    (frozen / "stand_in.py").write_text(STAND_IN)
    return [sys.executable, "stand_in.py", str(frozen)]


def trial_process(frozen: Path, body: str, *, parent: int | None = None) -> subprocess.Popen[str]:
    command = [*trial_script(frozen, body), *([str(parent)] if parent else [])]
    return subprocess.Popen(command, env=pool.environment(), cwd=frozen, stderr=subprocess.PIPE, text=True)


def test_a_result_is_left_and_its_exit_code_returned(frozen: Path) -> None:
    process = trial_process(frozen, "pass", parent=os.getpid())
    assert process.wait() == 0
    assert '"finished"' in (frozen / "result.json").read_text()


@pytest.mark.parametrize(
    ("body", "code", "status"),
    [
        ("from rlhf.fault import Fault; raise Fault('no such file')", 1, '"failed"'),
        ("raise KeyboardInterrupt", 75, '"stopped"'),
    ],
)
def test_a_fault_or_an_interrupt_before_the_run_is_a_result_without_traceback(
    frozen: Path, body: str, code: int, status: str
) -> None:
    process = trial_process(frozen, body)
    _, errors = process.communicate()
    assert process.returncode == code and "Traceback" not in errors
    assert status in (frozen / "result.json").read_text()


def test_a_trial_whose_sweeper_is_gone_does_not_begin(frozen: Path) -> None:
    process = trial_process(frozen, "pass", parent=2**22 + 1)
    _, errors = process.communicate()
    assert process.returncode == 1 and "the parent (process 4194305) is gone" in errors
    assert not (frozen / "result.json").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
def test_a_trial_dies_with_its_sweeper(frozen: Path) -> None:
    command = trial_script(frozen, "Path('pid').write_text(str(os.getpid())); time.sleep(60)")
    code = f"import os, subprocess; subprocess.run([*{command!r}, str(os.getpid())])"
    sweeper = subprocess.Popen([sys.executable, "-c", code], env=pool.environment(), cwd=frozen)
    while not ((frozen / "pid").exists() and (frozen / "pid").read_text()):
        assert sweeper.poll() is None
        time.sleep(0.01)
    pid = int((frozen / "pid").read_text())
    sweeper.send_signal(signal.SIGKILL)
    sweeper.wait()
    for _ in range(1000):  # the signal is sent by the kernel at once; the process table follows
        if not is_alive(pid):
            break
        time.sleep(0.01)
    assert not is_alive(pid)


def test_a_run_of_the_study_itself_is_not_told_as_one_from_before(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trial was interrupted after it, say, and begins again."""
    made = Result(Status.finished, "sft", "tiny", "r", "s", folder=str(frozen / "run"))
    (frozen / "run").mkdir()
    (frozen / "run/result.json").write_text(made.to_json())
    os.utime(frozen / "run/result.json", (100.0, 100.0))
    monkeypatch.setattr("rlhf.chain.execute", lambda *_, **__: made)
    monkeypatch.setattr(trial, "die_with", lambda parent: None)
    for since, said in (("since=99.5", ""), ("since=100.5", trial.REUSED)):
        assert trial.main([str(frozen), "1", since]) == 0
        assert Result.load(frozen / "result.json").message == said


def test_a_run_that_was_there_before_is_told_as_such(tmp_path: Path) -> None:
    result = Result(Status.finished, "sft", "tiny", "r", "s", folder=str(tmp_path), message="kept the best weights")
    (tmp_path / "result.json").write_text(result.to_json())
    written = (tmp_path / "result.json").stat().st_mtime
    assert trial._told(result, written + 1).message == f"kept the best weights; {trial.REUSED}"
    assert trial._told(result, written - 1) == result
