"""A pool of processes on this machine: jobs run as fresh processes, several at a time, and each of them ends as an ``End``.

A job leads a session and a process group of its own, so Ctrl-C reaches it only through us and nothing is ever killed by
name. Whatever is left of a group when its leader has ended is killed with it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import FrameType

POLL_SECONDS = 0.05
GRACE_SECONDS = 30.0

Cause = Enum("Cause", ["itself", "timeout", "interrupt"])
"""Why a job ended: of its own accord, because its time was over, or because the user (or the machine) stopped us."""


@dataclass(frozen=True)
class Job:
    """A process to run. Its output goes to ``folder/log.txt``; ``timeout`` is in seconds."""

    name: str
    folder: Path
    command: list[str]
    environment: dict[str, str]
    timeout: float | None = None


@dataclass(frozen=True)
class End:
    """How a job's process ended. ``code`` is its exit code, negative for a signal, null if it could not be started."""

    job: Job
    code: int | None
    cause: Cause
    seconds: float
    error: str = ""


@dataclass
class _Process:
    job: Job
    popen: subprocess.Popen[bytes]
    began: float
    cause: Cause = Cause.itself
    kill_at: float | None = None


def trial_command(folder: Path) -> list[str]:
    """The command that runs the frozen trial in ``folder`` and dies with this process."""
    return [sys.executable, "-m", "launchers.trial", str(folder.resolve()), str(os.getpid())]


def environment(threads: int) -> dict[str, str]:
    """This process's environment with ``threads`` CPU threads for every library, and our packages to be found from anywhere."""
    root = str(Path(__file__).resolve().parent.parent)
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, **{name: str(threads) for name in counts}, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    jobs: Iterator[Job],
    parallel: int,
    ended: Callable[[End], None],
    say: Callable[[str], None] = print,
    grace: float = GRACE_SECONDS,
) -> bool:
    """Run ``jobs``, ``parallel`` at a time; the next one is taken when a place is free. Call from the main thread.

    ``ended`` is called once for each job, here, not in a thread. A job past its timeout gets SIGTERM, and SIGKILL after
    ``grace`` seconds. The first Ctrl-C (or SIGTERM) is passed on to the jobs as SIGINT and no new one starts; the second
    kills them.

    Returns:
        Whether it was interrupted.
    """
    running: list[_Process] = []
    with _counted_signals() as signals:
        try:
            while True:
                while not signals and len(running) < parallel and (job := next(jobs, None)) is not None:
                    _start(job, running, ended)
                if not running:
                    return bool(signals)
                _pass_on(signals, running, say)
                for process in list(running):
                    _keep_to_time(process, grace)
                    if _has_ended(process):
                        running.remove(process)
                        ended(_reap(process))
                time.sleep(POLL_SECONDS)
        finally:
            for process in running:  # only when something of ours raised
                _signal(process, signal.SIGKILL)
                process.popen.wait()


def _start(job: Job, running: list[_Process], ended: Callable[[End], None]) -> None:
    try:
        with (job.folder / "log.txt").open("ab") as log:
            popen = subprocess.Popen(
                job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=job.environment, start_new_session=True
            )
    except OSError as error:
        ended(End(job, None, Cause.itself, 0.0, f"could not be started: {error}"))
    else:
        running.append(_Process(job, popen, time.monotonic()))


def _pass_on(signals: list[int], running: list[_Process], say: Callable[[str], None]) -> None:
    if not signals:
        return
    fresh = [process for process in running if process.cause is Cause.itself]
    if fresh:
        say(f"stopping: {len(fresh)} running, they save what they have; Ctrl-C again kills them")
    for process in fresh:
        process.cause = Cause.interrupt
        _signal(process, signal.SIGINT)
    if len(signals) > 1:
        for process in running:
            _signal(process, signal.SIGKILL)


def _keep_to_time(process: _Process, grace: float) -> None:
    now = time.monotonic()
    limit = process.job.timeout
    if process.cause is Cause.itself and limit is not None and now - process.began > limit:
        process.cause, process.kill_at = Cause.timeout, now + grace
        _signal(process, signal.SIGTERM)
    if process.kill_at is not None and now > process.kill_at:
        _signal(process, signal.SIGKILL)


def _has_ended(process: _Process) -> bool:
    """Whether the leader is gone, without reaping it: its number, which names the group, must stay taken until ``_reap``."""
    return os.waitid(os.P_PID, process.popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reap(process: _Process) -> End:
    _signal(process, signal.SIGKILL)  # what the leader left behind
    code = process.popen.wait()
    return End(process.job, code, process.cause, time.monotonic() - process.began)


def _signal(process: _Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.popen.pid, number)


@contextmanager
def _counted_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in a list instead of letting them raise in the middle of our bookkeeping."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
