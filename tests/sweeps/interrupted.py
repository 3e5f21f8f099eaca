"""Ctrl-C at a known moment."""

import os
import signal
import threading
import time
from pathlib import Path


def interrupt_when(path: Path) -> None:
    """Interrupt this process once ``path`` exists."""

    def watch() -> None:
        while not path.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True).start()
