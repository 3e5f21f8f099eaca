"""Every way a trial's process can end, with real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from launchers import outcome, pool
from launchers.pool import LATER, Cause, End, Job, Later, Running
from launchers.slots import Slots
from rlhf.config import Run
from rlhf.result import Result, Status
from tests.launchers.conftest import is_alive

JOBS = Path(__file__).parent / "jobs.py"
HARDWARE = SimpleNamespace(usd_per_hour=3.6)
RUN = cast(Run, SimpleNamespace(stage="sft", model=SimpleNamespace(name="tiny"), seed=7, ranks=2, hardware=HARDWARE))


def job(folder: Path, way: str, **settings: Any) -> Job:
    folder.mkdir()
    return Job(way, folder, [sys.executable, str(JOBS), way, str(folder)], **settings)


def run(jobs: Iterator[Job], parallel: int = 1, grace: float = 30.0) -> tuple[list[End], bool]:
    ends: list[End] = []
    interrupted = pool.run(pool.each(jobs), Slots(parallel), ends.append, say=lambda line: None, grace=grace)
    return ends, interrupted


def result_of(folder: Path, way: str, **settings: Any) -> Result:
    (end,), interrupted = run(iter([job(folder / way, way, **settings)]), grace=0.2)
    assert not interrupted
    return outcome.result_of(end, RUN)


def when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Call ``act`` once ``condition`` holds."""

    def watch() -> None:
        while not condition():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("way", "status", "reason", "said"),
    [
        ("ok", "finished", "", ""),
        ("nan", "failed", "nan", "the loss is nan"),
        ("oom", "infeasible", "oom", "can't allocate"),
        ("crash", "failed", "crash", "RuntimeError: the middle of nowhere"),
        ("silent", "failed", "crash", "begins"),
        ("SIGSEGV", "failed", "crash", "begins"),
        ("SIGKILL", "lost", "SIGKILL", "killed from outside"),
        ("SIGTERM", "lost", "SIGTERM", "killed from outside"),
    ],
)
def test_every_end_is_typed(tmp_path: Path, way: str, status: str, reason: str, said: str) -> None:
    result = result_of(tmp_path, way)
    assert (result.status.name, result.reason) == (status, reason)
    assert said in (result.message.splitlines() or [""])[0]
    assert (result.stage, result.model) == ("sft", "tiny")


@pytest.mark.parametrize(("way", "number"), [("sleep", signal.SIGTERM), ("stubborn", signal.SIGKILL)])
def test_timeout_ends_also_a_trial_that_ignores_sigterm(tmp_path: Path, way: str, number: int) -> None:
    (end,), _ = run(iter([job(tmp_path / way, way, timeout=2.0)]), grace=0.2)
    assert (tmp_path / way / "ready").exists() and end.code == -number
    result = outcome.result_of(end, RUN)
    assert (result.status, result.reason) == (Status.failed, "timeout")
    assert "sweep.trial_timeout=2" in result.message


def test_a_crash_keeps_the_end_of_its_log_without_control_characters(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_bytes(
        b"\x1b[31mred\x1b[0m\nhalf\rwhole\n" + b"".join(b"%d\n" % n for n in range(30)) + b"Error: x\x07y\n\n"
    )
    lines = outcome.log_tail(tmp_path / "log.txt").splitlines()
    assert lines[0] == lines[-1] == "Error: xy"
    assert len(lines) == 1 + outcome.LOG_TAIL_LINES
    assert outcome.log_tail(tmp_path / "none.txt") == ""


def test_a_command_that_cannot_start_is_a_crash(tmp_path: Path) -> None:
    (end,), _ = run(iter([Job("x", tmp_path, [str(tmp_path / "no_such_program")])]))
    result = outcome.result_of(end, RUN)
    assert (result.status, result.reason) == (Status.failed, "crash")
    assert "no_such_program" in result.message


def test_a_run_without_a_result_costs_what_its_place_was_taken_for(tmp_path: Path) -> None:
    result = outcome.result_of(End(Job("x", tmp_path), 1, Cause.itself, 500.0), RUN)
    assert (result.status, result.seconds, result.cost_usd) == (Status.failed, 500.0, pytest.approx(1.0))


def test_a_slow_job_holds_up_no_other(tmp_path: Path) -> None:
    slow, quick = job(tmp_path / "slow", "polite"), [job(tmp_path / f"quick{n}", "ok") for n in range(3)]
    ends: list[End] = []
    when(lambda: len(ends) == 3, interrupt)  # the slow one never ends by itself
    pool.run(pool.each([slow, *quick]), Slots(2), ends.append, say=lambda line: None)
    assert [end.job.name for end in ends] == ["ok", "ok", "ok", "polite"]


def test_ctrl_c_lets_trials_save_and_starts_no_more(tmp_path: Path) -> None:
    polite, sleeper = job(tmp_path / "a", "polite"), job(tmp_path / "b", "sleep")
    started: list[str] = []

    def jobs() -> Iterator[Job]:
        for each in (polite, sleeper, Job("never", tmp_path, ["false"])):
            started.append(each.name)
            yield each

    when(lambda: (tmp_path / "a/ready").exists() and (tmp_path / "b/ready").exists(), interrupt)
    ends, interrupted = run(jobs(), parallel=2)
    assert interrupted and started == ["polite", "sleep"]
    results = {end.job.name: outcome.result_of(end, RUN) for end in ends}
    assert {(result.status, result.reason) for result in results.values()} == {(Status.stopped, "interrupted")}
    assert results["polite"].message == "stopped after 7 of 10 steps"


def test_a_ctrl_c_is_heard_while_the_source_is_at_work() -> None:
    heard = threading.Event()

    def source(free: int) -> None:
        interrupt()
        assert heard.wait(60)  # whoever is told may end what the source waits for

    assert pool.run(source, Slots(1), lambda end: None, stopping=heard.set)


def test_a_second_ctrl_c_kills(tmp_path: Path) -> None:
    stubborn = job(tmp_path / "a", "stubborn")

    def twice() -> None:
        interrupt()
        time.sleep(0.3)
        interrupt()

    when(lambda: (tmp_path / "a/ready").exists(), twice)
    (end,), interrupted = run(iter([stubborn]))
    assert interrupted and end.code == -signal.SIGKILL and end.cause is Cause.interrupt
    assert outcome.result_of(end, RUN).status is Status.stopped


def test_nothing_of_a_trial_outlives_it(tmp_path: Path) -> None:
    run(iter([job(tmp_path / "a", "family")]))
    child = int((tmp_path / "a/child").read_text())
    assert not is_alive(child)


def test_a_bug_of_ours_leaves_no_process_behind(tmp_path: Path) -> None:
    sleeper = job(tmp_path / "a", "sleep")

    def jobs() -> Iterator[Job]:
        yield sleeper
        raise ZeroDivisionError

    popens: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def keep(*arguments: Any, **settings: Any) -> subprocess.Popen[bytes]:
        popens.append(original(*arguments, **settings))
        return popens[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", keep)
        with pytest.raises(ZeroDivisionError):
            run(jobs(), parallel=2)
    assert popens[0].returncode == -signal.SIGKILL


def test_the_old_signal_handlers_are_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run(iter([job(tmp_path / "a", "ok")]))
    assert signal.getsignal(signal.SIGINT) is before


def test_a_source_may_have_nothing_now_and_something_later(tmp_path: Path) -> None:
    """As a study whose second job starts from what the first one makes."""
    left = [job(tmp_path / "parent", "ok"), job(tmp_path / "child", "ok")]
    ends: list[End] = []
    begun: list[tuple[str, int]] = []

    def source(free: int) -> Job | Later | None:
        if len(left) == 1 and not ends:
            return LATER
        if not left:
            return None
        begun.append((left[0].folder.name, len(ends)))
        return left.pop(0)

    assert not pool.run(source, Slots(2), ends.append)
    assert begun == [("parent", 0), ("child", 1)] and [end.code for end in ends] == [0, 0]


def test_a_source_that_waits_for_something_else_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ASK_SECONDS", 0.1)
    answers: list[Job | Later | None] = [LATER, LATER, job(tmp_path / "a", "ok"), None]
    ends: list[End] = []
    assert not pool.run(lambda free: answers.pop(0), Slots(1), ends.append)
    assert [end.code for end in ends] == [0] and not answers


def test_the_study_looks_in_while_jobs_run_and_can_stop_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ASK_SECONDS", 0.1)
    seen: list[str] = []

    def tick(running: Sequence[Running]) -> None:
        for each in running:
            seen.append(each.job.name)
            if (each.job.folder / "ready").exists():
                each.stop()

    ends: list[End] = []
    interrupted = pool.run(pool.each([job(tmp_path / "a", "polite")]), Slots(1), ends.append, tick=tick)
    assert not interrupted and set(seen) == {"polite"}
    result = outcome.result_of(ends[0], RUN)
    assert (result.status, result.message) == (Status.stopped, "stopped after 7 of 10 steps")


def test_a_trial_sees_its_devices_and_threads(tmp_path: Path) -> None:
    jobs = [job(tmp_path / name, "environment", devices=devices, ranks=devices) for name, devices in (("a", 2), ("b", 1))]
    ends: list[End] = []
    pool.run(pool.each(jobs), Slots(None, 6, ("4", "5", "6")), ends.append)
    told = [json.loads((each.folder / "environment.json").read_text()) for each in jobs]
    assert [(each["CUDA_VISIBLE_DEVICES"], each["OMP_NUM_THREADS"]) for each in told] == [("4,5", "3"), ("6", "6")]


def test_a_trial_that_can_never_start_is_a_fault_and_the_others_run(tmp_path: Path) -> None:
    big, small = job(tmp_path / "big", "ok", devices=4), job(tmp_path / "small", "ok")
    ends: list[End] = []
    pool.run(pool.each([big, small]), Slots(None, 1, ("0", "1")), ends.append)
    result = outcome.result_of(ends[0], RUN)
    assert (result.status, result.reason) == (Status.failed, "fault") and "ranks=4" in result.message
    assert ends[1].code == 0


def test_a_job_that_waited_for_room_ends_as_interrupted(tmp_path: Path) -> None:
    small, big = job(tmp_path / "small", "polite"), job(tmp_path / "big", "ok", devices=2)
    when(lambda: (tmp_path / "small/ready").exists(), interrupt)
    ends: list[End] = []
    assert pool.run(pool.each([small, big]), Slots(None, 1, ("0", "1")), ends.append, say=lambda line: None)
    assert {end.job.folder.name: (end.cause, end.code) for end in ends} == {
        "big": (Cause.interrupt, None),
        "small": (Cause.interrupt, 0),
    }


def test_packages_reach_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    root, rest = pool.environment()["PYTHONPATH"].split(os.pathsep)
    assert rest == "/somewhere" and (Path(root) / "launchers" / "trial.py").is_file()
