"""A pool of processes on this machine: jobs run as processes of their own, several at a time, and each ends as an ``End``.

A job leads a session and a process group of its own, so Ctrl-C reaches it only through us and nothing is ever killed by
name. Whatever is left of a group when its leader has ended is killed with it.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from launchers.signals import collected
from launchers.slots import Slot, Slots
from launchers.warm import Child, Gone, Warm, start_fresh
from rlhf.fault import Fault

POLL_SECONDS = 0.05
ASK_SECONDS = 1.0
GRACE_SECONDS = 30.0

Cause = Enum("Cause", ["itself", "timeout", "interrupt", "fault"])
"""Why a job ended: of its own accord; because its time was over; because the user, the machine or the study stopped it;
because it never could start here."""


@dataclass(frozen=True)
class Job:
    """A process to run. Its output goes to ``folder/log.txt``; ``timeout`` is in seconds.

    ``devices`` are the GPUs it takes on a machine that has some, ``ranks`` the processes that share its cores.
    """

    name: str
    folder: Path
    command: list[str] | None = None
    """null: the frozen trial in ``folder`` (``launchers.trial``), with ``arguments``."""
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    """What it has beyond our environment and its slot's."""
    devices: int = 1
    ranks: int = 1
    timeout: float | None = None


@dataclass(frozen=True)
class End:
    """How a job's process ended. ``code`` is its exit code, negative for a signal, null if it could not be started."""

    job: Job
    code: int | None
    cause: Cause
    seconds: float
    error: str = ""


class Later(Enum):
    """A source's answer when it has no job now and may have one later."""

    later = "later"


LATER = Later.later

Source = Callable[[int], Job | Later | None]
"""Called with the room there is (``Slots.free``): the job to start next, ``LATER``, or null when there will be no more.

A job that does not fit yet waits for its room, and no other starts before it. After ``LATER`` the source is asked again
when a job has ended, and every ``ASK_SECONDS``."""


@dataclass
class Running:
    """A job that runs."""

    job: Job
    slot: Slot
    child: Child
    began: float
    cause: Cause = Cause.itself
    kill_at: float | None = None

    @property
    def seconds(self) -> float:
        """For how long it has."""
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Ask it, once, to save what it has and end, as Ctrl-C does."""
        if self.cause is Cause.itself:
            self.cause = Cause.interrupt
            self.signal(signal.SIGINT)

    def signal(self, number: int) -> None:
        """Send a signal to its whole group."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, number)

    def keep_to_time(self, grace: float) -> None:
        """End it when its time is over: SIGTERM, and SIGKILL after ``grace`` seconds."""
        limit = self.job.timeout
        if self.cause is Cause.itself and limit is not None and self.seconds > limit:
            self.cause, self.kill_at = Cause.timeout, time.monotonic() + grace
            self.signal(signal.SIGTERM)
        if self.kill_at is not None and time.monotonic() > self.kill_at:
            self.signal(signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether the leader is gone, without reaping it: its number, which names the group, must stay taken until ``reap``."""
        return os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self) -> End:
        """Kill what the leader left behind; only when it has ended, or shall."""
        self.signal(signal.SIGKILL)
        code = self.child.wait()
        return End(self.job, code, self.cause, self.seconds)


Tick = Callable[[Sequence[Running]], None]


def environment() -> dict[str, str]:
    """This process's environment, with our packages to be found from anywhere."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def each(jobs: Iterable[Job]) -> Source:
    """``jobs`` in their order."""
    rest = iter(jobs)
    return lambda free: next(rest, None)


def run(
    source: Source,
    slots: Slots,
    ended: Callable[[End], None],
    say: Callable[[str], None] = print,
    grace: float = GRACE_SECONDS,
    tick: Tick = lambda running: None,
    warm: Warm | None = None,
    stopping: Callable[[], None] = lambda: None,
) -> bool:
    """Run the jobs of ``source``, as many at a time as ``slots`` holds. Call from the main thread.

    Trials are started by ``warm``, or as fresh processes without it.

    ``ended`` is called once for each job, and ``tick`` every ``ASK_SECONDS`` while jobs run or are awaited: both here, not
    in a thread. A job past its timeout gets SIGTERM, and SIGKILL after ``grace`` seconds. The first Ctrl-C (or SIGTERM) is
    passed on to the jobs as SIGINT and no new one starts; the second kills them. ``stopping`` hears of each at once, in its
    handler (``launchers.signals``), also while ``source`` or ``ended`` is at work.

    Returns:
        Whether it was interrupted.
    """
    running: list[Running] = []
    queue = _Queue(source, slots, warm)
    with collected(stopping) as signals:
        try:
            while True:
                while not signals and (found := queue.next()) is not None:
                    started = _start(*found, warm)
                    if isinstance(started, Running):
                        running.append(started)
                        continue
                    if isinstance(found[1], Slot):
                        slots.give_back(found[1])
                    if isinstance(started, End):
                        ended(started)
                    else:
                        queue.put_back(found[0])
                if signals and (left := queue.give_up()) is not None:
                    ended(End(left, None, Cause.interrupt, 0.0))
                if not running and (signals or queue.exhausted):
                    return bool(signals)
                _pass_on(signals, running, say)
                for process in list(running):
                    process.keep_to_time(grace)
                    if process.has_ended():
                        running.remove(process)
                        end = process.reap()
                        slots.give_back(process.slot)
                        ended(end)
                        queue.ask_again()
                if queue.is_time():
                    tick(running)
                    if warm is not None:
                        warm.reap_strangers([process.child.pid for process in running])
                time.sleep(POLL_SECONDS)
        finally:
            for process in running:  # only when something of ours raised
                process.reap()
                slots.give_back(process.slot)


class _Queue:
    """The source, the job of it that waits for room, and when to ask again."""

    def __init__(self, source: Source, slots: Slots, warm: Warm | None) -> None:
        self._source, self._slots, self._warm = source, slots, warm
        self._waiting: Job | None = None
        self._asks = True
        self._due = time.monotonic() + ASK_SECONDS
        self._dry = False

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more."""
        return self._dry and self._waiting is None

    def next(self) -> tuple[Job, Slot | str] | None:
        """A job with its place, or with why it can have none; null if nothing can start now."""
        if self._waiting is None and self._asks and not self._dry and self._slots.free > 0:
            found = self._source(self._slots.free)
            self._dry, self._asks = found is None, found is not LATER
            self._waiting = found if isinstance(found, Job) else None
        if self._waiting is None or (self._warm is not None and self._waiting.command is None and not self._warm.settled()):
            return None
        place: Slot | str | None
        try:
            self._slots.require(self._waiting.devices)
            place = self._slots.take(self._waiting.devices, self._waiting.ranks)
        except Fault as fault:
            place = str(fault)
        if place is None:
            return None
        job, self._waiting = self._waiting, None
        return job, place

    def put_back(self, job: Job) -> None:
        """It could not be started after all."""
        self._waiting = job

    def give_up(self) -> Job | None:
        """The job that waited for room; it will not start."""
        left, self._waiting = self._waiting, None
        return left

    def ask_again(self) -> None:
        """Something has changed."""
        self._asks = True

    def is_time(self) -> bool:
        """Whether another ``ASK_SECONDS`` have gone by."""
        if time.monotonic() < self._due:
            return False
        self._due, self._asks = time.monotonic() + ASK_SECONDS, True
        return True


def _start(job: Job, place: Slot | str, warm: Warm | None) -> Running | End | None:
    """The job, running or at its end; null if it is to be started again, since the warm server has died."""
    if isinstance(place, str):
        return End(job, None, Cause.fault, 0.0, place)
    variables = environment() | place.environment | job.environment
    trial = [str(job.folder.resolve()), str(os.getpid())]  # which dies with this process
    try:
        with (job.folder / "log.txt").open("ab") as log:
            if job.command is None and warm is not None:
                child = warm.start("launchers.trial", [*trial, *job.arguments], variables, log.fileno(), log.fileno())
            else:
                command = job.command or [sys.executable, "-m", "launchers.trial", *trial, *job.arguments]
                child = start_fresh(command, variables, log.fileno(), log.fileno())
    except Gone:
        return None
    except OSError as error:
        return End(job, None, Cause.itself, 0.0, f"could not be started: {error}")
    return Running(job, place, child, time.monotonic())


def _pass_on(signals: list[int], running: list[Running], say: Callable[[str], None]) -> None:
    if not signals:
        return
    fresh = [process for process in running if process.cause is Cause.itself]
    if fresh:
        say(f"stopping: {len(fresh)} running, they save what they have; Ctrl-C again kills them")
    for process in fresh:
        process.stop()
    if len(signals) > 1:
        for process in running:
            process.signal(signal.SIGKILL)
