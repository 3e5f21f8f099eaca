"""Ctrl-C at a known moment."""

import os
import signal
import threading
import time
from pathlib import Path


def interrupt_when(path: Path) -> None:
    """Interrupt this process once ``path`` exists."""

    def watch() -> None:
        wait_until(path)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()


def wait_until(path: Path) -> None:
    """Return once ``path`` exists."""
    while not path.exists():
        time.sleep(0.01)
