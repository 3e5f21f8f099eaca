"""The sweeper's side of the warm server (``launchers.warm_server``): processes that begin with everything imported.

A trial started here costs a fork instead of an interpreter that loads torch and transformers. Where the server cannot be
had (not on Linux, it died twice, something started threads in it) trials are fresh processes, which is said once.
"""

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from launchers.slots import COUNTS
from rlhf.stopping import adopt_orphans

PRELOAD = ("launchers.preload",)
LIVES = 2
ANSWER_SECONDS = 60.0


class Gone(RuntimeError):
    """The server has died."""


class Child(Protocol):
    """A process whose end we wait for; it leads a process group of its own."""

    @property
    def pid(self) -> int:
        """Its number, and that of its group."""
        ...

    def wait(self) -> int:
        """Its exit code, negative for a signal, once it has ended."""
        ...


def start_fresh(command: list[str], environment: dict[str, str], stdout: int, stderr: int) -> Child:
    """A process of its own interpreter, or whatever ``command`` is.

    Raises:
        OSError: it cannot be started.
    """
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=quiet, stdout=stdout, stderr=stderr, env=environment, start_new_session=True)


class Forked:
    """A process that was forked for us and is our child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Warm:
    """The warm server of a study, as a context. Use it from the main thread: what it forks dies with that thread."""

    def __init__(
        self, environment: dict[str, str], say: Callable[[str], None] = print, preload: Sequence[str] = PRELOAD
    ) -> None:
        """A server with ``environment`` that imports ``preload``; ``say`` hears when there is none any more."""
        self._environment = {**environment, **dict.fromkeys(COUNTS, "1")}  # a library's threads would not survive the fork
        self._say, self._preload = say, tuple(preload)
        self._adopts = sys.platform == "linux"
        self._lives = LIVES if self._adopts else 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._waited_for: set[int] = set()
        """All that were started here: whoever asked for one waits for it."""

    def __enter__(self) -> Self:
        if self._adopts:
            adopt_orphans(True)
            self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()
        if self._adopts:
            adopt_orphans(False)

    @property
    def usable(self) -> bool:
        """Whether processes come from a server; false: they have to be fresh ones."""
        return self._process is not None

    def settled(self) -> bool:
        """Whether it is known how processes start: the server has imported everything, or there is none."""
        if self._process is not None and not self._ready and select.select([self._channel], [], [], 0)[0]:
            if self._receive() is None:
                self._bury()
            else:
                self._ready = True
        return self._ready or self._process is None

    def start(self, module: str, arguments: Sequence[str], environment: dict[str, str], stdout: int, stderr: int) -> Child:
        """A process that calls ``main`` of ``module`` with ``arguments`` and exits with what that returns.

        It leads a session of its own and has ``environment``, the current folder and the two open files. Only once
        ``settled()``.

        Raises:
            Gone: the server has just died; once ``settled()`` again, ask again.
            OSError: the machine has no room for another process.
        """
        if self.usable:
            child = self._fork(module, arguments, environment, stdout, stderr)
        else:
            child = start_fresh([sys.executable, "-m", module, *arguments], environment, stdout, stderr)
        self._waited_for.add(child.pid)
        return child

    def _fork(self, module: str, arguments: Sequence[str], environment: dict[str, str], stdout: int, stderr: int) -> Child:
        changed = {name: value for name, value in environment.items() if self._environment.get(name) != value}
        removed = {name: None for name in self._environment if name not in environment}
        order = {"module": module, "arguments": list(arguments), "environment": changed | removed, "folder": str(Path.cwd())}
        answer = None
        with suppress(OSError):
            socket.send_fds(self._channel, [json.dumps(order).encode()], [stdout, stderr])
            if select.select([self._channel], [], [], ANSWER_SECONDS)[0]:
                answer = self._receive()
        if answer is None:
            self._bury()
            raise Gone
        if "error" in answer:
            raise OSError(answer["error"])
        return Forked(answer["pid"])

    def reap_strangers(self, ours: Sequence[int]) -> None:
        """Take note of the end of processes that trials left behind and we adopted; ``ours`` are waited for elsewhere."""
        while self._adopts:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            server = self._process.pid if self._process is not None else None
            if ended is None or ended.si_pid in {*ours, *self._waited_for, server} or os.getsid(ended.si_pid) == os.getsid(0):
                return  # nobody's, one that is waited for, or a child of somebody else in this process
            os.waitpid(ended.si_pid, 0)

    def _begin(self) -> None:
        self._lives -= 1
        self._ready = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, lives as long as the server
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "launchers.warm_server", str(theirs.fileno()), str(os.getpid()), *self._preload]
        with theirs:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def _receive(self) -> dict[str, Any] | None:
        """What the server says; null if it is gone."""
        try:
            said = self._channel.recv(2**16)
        except OSError:
            return None
        return json.loads(said) if said else None

    def _bury(self) -> None:
        """Begin another server, or do without."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        was_ready = self._ready
        self._end()
        if self._lives and was_ready:
            self._begin()
            return
        self._lives = 0
        why = f": {lines[-1]}" if lines else ""
        self._say(f"trials start as fresh processes, each of which loads torch anew; the warm server is gone{why}")

    def _end(self) -> None:
        if self._process is None:
            return
        self._channel.close()
        self._process.kill()  # it holds nothing; what it has forked is not its child
        self._process.wait()
        self._process = None
        self._log.close()
