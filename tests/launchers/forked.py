"""What forked processes do in the tests of the warm server: ``main`` writes down what it finds, or ends as it is told."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    """``about FILE``, ``exit CODE``, ``raise``, ``kill``, ``sleep FILE``, ``leave FILE`` or ``say TEXT``."""
    way, *rest = arguments
    if way == "about":
        about = {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "session": os.getsid(0),
            "group": os.getpgid(0),
            "folder": os.getcwd(),
            "arguments": sys.argv,
            "environment": dict(os.environ),
            "input": sys.stdin.read(),
            "interrupt": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            "random": random.random(),
            "open": sorted(os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if each not in "0123"),
        }
        Path(rest[0]).write_text(json.dumps(about))
        print("to the log")
        print("to the log as well", file=sys.stderr)
    elif way == "exit":
        return int(rest[0])
    elif way == "raise":
        raise ZeroDivisionError
    elif way == "kill":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif way == "sleep":
        Path(rest[0]).write_text(str(os.getpid()))
        time.sleep(60)
    elif way == "leave":
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.2)"], start_new_session=True)
        Path(rest[0]).write_text(str(left.pid))
    elif way == "say":
        print(rest[0])
    return 0
