"""The warm server: ``python -m launchers.warm_server CHANNEL PARENT MODULE ...`` imports once and forks a process an order.

It stays single-threaded and away from CUDA, so a process forked from it is as good as a fresh one: a session and process
group, output, environment, threads, signals and random numbers of its own. The process is not the server's child but the
child of PARENT (which adopts orphans), so PARENT waits for it as for one it has started itself, it dies with PARENT, and
the server may die without it. Code that is changed while a study runs reaches none of its trials.
"""

import atexit
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from rlhf.stopping import die_with

LONGEST_ORDER = 2**20
DESCRIPTORS = 2


def main(arguments: list[str]) -> int:
    """Serve until the sweeper closes the channel; in a forked process, carry out its order and return the exit code."""
    channel, parent = socket.socket(fileno=int(arguments[0])), int(arguments[1])
    die_with(parent)
    for module in arguments[2:]:
        import_module(module)
    if (unfit := _unfit()) is not None:
        print(unfit, file=sys.stderr)
        return 1
    gc.collect()
    gc.freeze()  # else the first collection in each child would copy every page
    order = _serve(channel, parent)
    return _leave(order()) if order is not None else 0


def _unfit() -> str | None:
    """Why nothing can be forked from this process; null if it can."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"{threads} threads after the imports: a process forked from here could wait for ever for a lock of one of them"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "CUDA is initialised after the imports: a process forked from here could not use it"
    return None


def _serve(channel: socket.socket, parent: int) -> Callable[[], int] | None:
    """Fork what is ordered. Returns null in the server at its end, and in each forked process what it shall do."""
    channel.send(b"{}")
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, LONGEST_ORDER, DESCRIPTORS)
        if not message:
            return None
        order = json.loads(message)
        answer, says = os.pipe()
        try:
            child = os.fork()
        except OSError as error:
            os.write(says, json.dumps({"error": str(error)}).encode())
        else:
            if child == 0:
                channel.close()
                os.close(answer)
                _leave_orphan()
                return _become(order, descriptors, parent, says)
            os.waitpid(child, 0)
        for descriptor in (*descriptors, says):
            os.close(descriptor)
        with os.fdopen(answer, "rb") as pipe:
            channel.send(pipe.read() or b'{"error": "it died as it was forked"}')


def _leave_orphan() -> None:
    """Go on as a grandchild of the server, whose parent has ended, so that it has been adopted."""
    between = os.getpid()
    if os.fork() != 0:
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.0005)


def _become(order: dict[str, Any], descriptors: list[int], parent: int, says: int) -> Callable[[], int]:
    """Make this the process that was ordered, say its number, and return what it is to do."""
    os.setsid()
    die_with(parent)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for target, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, target)
        os.close(descriptor)
    for name, value in order["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(order["folder"])
    sys.argv = [order["module"], *order["arguments"]]
    if "numpy" in sys.modules:  # Python's own generator seeds itself in a forked process, torch's has not been used
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules and "OMP_NUM_THREADS" in os.environ:  # which its libraries read only when they are loaded
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    os.write(says, json.dumps({"pid": os.getpid()}).encode())
    os.close(says)
    act: Callable[[list[str]], int] = import_module(order["module"]).main
    return lambda: act(order["arguments"])


def _leave(code: int) -> NoReturn:
    """End as an interpreter does, but leave the memory to the kernel: to free it piece by piece takes longer than the fork."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
