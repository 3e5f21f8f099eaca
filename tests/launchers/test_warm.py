"""A process from the warm server is as good as a fresh one, and nobody is left behind, whoever dies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launchers import pool
from launchers.pool import End, Job
from launchers.question import Question
from launchers.slots import Slots
from launchers.warm import Child, Forked, Warm
from rlhf.fault import Fault
from tests.launchers.conftest import is_alive, variables, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and adopts as Linux does")


def start(warm: Warm, log: Path, *arguments: str, **more: str) -> Child:
    with log.open("ab") as file:
        return warm.start("forked", arguments, variables(**more), file.fileno(), file.fileno())


def about(warm: Warm, folder: Path, name: str = "about", **more: str) -> dict[str, Any]:
    child = start(warm, folder / "log.txt", "about", str(folder / name), **more)
    assert isinstance(child, Forked) and child.wait() == 0
    found: dict[str, Any] = json.loads((folder / name).read_text())
    assert found["pid"] == child.pid
    return found


def test_a_forked_process_has_everything_of_its_own(light: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HUB_OFFLINE")  # after the server has begun
    found = about(light, tmp_path, CUDA_VISIBLE_DEVICES="7", OMP_NUM_THREADS="3")
    assert found["parent"] == os.getpid() and found["session"] == found["group"] == found["pid"]
    assert found["folder"] == str(tmp_path) and found["arguments"] == ["forked", "about", str(tmp_path / "about")]
    assert found["input"] == "" and found["interrupt"]
    assert found["environment"] == variables(CUDA_VISIBLE_DEVICES="7", OMP_NUM_THREADS="3")
    assert (tmp_path / "log.txt").read_text() == "to the log\nto the log as well\n"
    assert found["open"] == []  # nothing of the server's
    assert about(light, tmp_path, "again")["random"] != found["random"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(("exit", "75"), 75, ""), (("raise",), 1, "ZeroDivisionError"), (("kill",), -signal.SIGSEGV, "")],
)
def test_its_end_is_told_as_a_fresh_process_tells_it(
    light: Warm, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert start(light, tmp_path / "log.txt", *arguments).wait() == code
    assert said in (tmp_path / "log.txt").read_text()


def test_it_outlives_the_server_and_another_server_takes_over(light: Warm, tmp_path: Path) -> None:
    sleeper = start(light, tmp_path / "log.txt", "sleep", str(tmp_path / "pid"))
    wait_for((tmp_path / "pid").exists)
    server = server_of(light)
    os.kill(server, signal.SIGKILL)
    said: list[str] = []
    light._say = said.append
    jobs = [Job("next", tmp_path / name) for name in ("a", "b")]
    ends = run_as_forked(light, jobs, "exit", "0")
    assert [end.code for end in ends] == [0, 0] and light.usable and server_of(light) != server and not said
    assert is_alive(sleeper.pid)
    os.killpg(sleeper.pid, signal.SIGKILL)
    assert sleeper.wait() == -signal.SIGKILL


def test_when_servers_keep_dying_trials_are_fresh_processes_and_that_is_said_once(light: Warm, tmp_path: Path) -> None:
    said: list[str] = []
    light._say = said.append
    for name in ("a", "b"):
        os.kill(server_of(light), signal.SIGKILL)
        (end,) = run_as_forked(light, [Job(name, tmp_path / name)], "exit", "0")
        wait_for(light.settled)
    assert not light.usable and len(said) == 1 and "fresh processes" in said[0]
    assert end.code is not None


@pytest.mark.parametrize(
    ("module", "said"), [("no_such_module", "no_such_module"), ("threaded", "2 threads after the imports")]
)
def test_a_server_that_cannot_be_is_said_with_its_reason(tmp_path: Path, module: str, said: str) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    )
    heard: list[str] = []
    with Warm(variables(PYTHONPATH=f"{variables()['PYTHONPATH']}:{tmp_path}"), heard.append, [module]) as warm:
        wait_for(warm.settled)
        assert not warm.usable and len(heard) == 1 and said in heard[0]


def test_what_a_trial_leaves_is_buried_and_other_children_are_left_alone(light: Warm, tmp_path: Path) -> None:
    child = start(light, tmp_path / "log.txt", "leave", str(tmp_path / "pid"))
    assert child.wait() == 0
    stranger, other = int((tmp_path / "pid").read_text()), subprocess.Popen([sys.executable, "-c", ""])
    wait_for(lambda: not is_alive(stranger))
    light.reap_strangers([])
    wait_for(lambda: not is_alive(other.pid))
    light.reap_strangers([])
    assert other.wait() == 0
    light.reap_strangers([])
    assert not Path(f"/proc/{stranger}").exists()


SWEEPER = """
import sys, time
from pathlib import Path
from launchers.warm import Warm
from tests.launchers.conftest import variables
folder = Path(sys.argv[1])
with Warm(variables(), preload=()) as warm:
    while not warm.settled():
        time.sleep(0.01)
    with (folder / "log.txt").open("ab") as log:
        child = warm.start("forked", ["sleep", str(folder / "pid")], variables(), log.fileno(), log.fileno())
    (folder / "server").write_text(str(warm._process.pid))
    child.wait()
"""


def test_nothing_survives_a_sweeper_that_is_killed(tmp_path: Path, root: Path) -> None:
    sweeper = subprocess.Popen([sys.executable, "-c", SWEEPER, str(tmp_path)], cwd=root, env=variables())
    wait_for(lambda: (tmp_path / "server").exists() and (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "server")]
    assert all(map(is_alive, pids))
    sweeper.kill()
    sweeper.wait()
    wait_for(lambda: not any(map(is_alive, pids)))


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_a_question_is_answered_in_its_time_and_silence_is_a_fault(light: Warm) -> None:
    """And leaves no file open."""
    light._environment = variables()
    assert answer(light, "say", '{"stages": [1, 2]}') == {"stages": [1, 2]}
    with pytest.raises(Fault, match="forked: ended with 0 and no answer; it said nothing"):
        answer(light, "say", "not JSON")
    with pytest.raises(Fault, match="forked: ended with 1 and no answer; ZeroDivisionError"):
        answer(light, "raise")


def test_a_question_may_be_withdrawn(light: Warm, tmp_path: Path) -> None:
    asked, pid = Question(light, "forked", ["sleep", str(tmp_path / "pid")]), tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert asked.answer() is None
        time.sleep(0.01)
    asked.withdraw()
    assert not is_alive(int(pid.read_text()))


def test_the_pool_answers_while_the_server_still_imports(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)")
    with Warm(variables(PYTHONPATH=f"{variables()['PYTHONPATH']}:{tmp_path}"), preload=["slow"]) as warm:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        ends: list[End] = []
        assert pool.run(pool.each([Job("a", tmp_path)]), Slots(1), ends.append, lambda line: None, warm=warm)
    assert [end.cause.name for end in ends] == ["interrupt"]


def answer(warm: Warm, *arguments: str) -> Any:
    asked = Question(warm, "forked", arguments)
    while (found := asked.answer()) is None:
        time.sleep(0.01)
    return found


def run_as_forked(warm: Warm, jobs: list[Job], *arguments: str) -> list[End]:
    """Run jobs in the pool with ``forked`` in the place of the trial."""
    original: Callable[..., Child] = warm.start
    ends: list[End] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm, "start", lambda module, trial, *rest: original("forked", arguments, *rest))
        for each in jobs:
            each.folder.mkdir(exist_ok=True)
        pool.run(pool.each(jobs), Slots(1), ends.append, warm=warm)
    return ends


def server_of(warm: Warm) -> int:
    assert warm._process is not None
    return warm._process.pid


def test_the_end_of_a_process_is_left_to_whoever_asked_for_it(light: Warm, tmp_path: Path) -> None:
    child = start(light, tmp_path / "log.txt", "leave", str(tmp_path / "pid"))
    wait_for(lambda: not is_alive(child.pid))
    light.reap_strangers([])
    assert child.wait() == 0
