"""A process that ends in a way named by its first argument, in the folder of its second."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def result(folder: Path, status: str, reason: str = "", message: str = "") -> None:
    """Write a ``result.json`` as a trial does."""
    about = {"status": status, "stage": "sft", "model": "tiny", "run_signature": "r", "result_signature": "s"}
    content = {
        **about,
        "reason": reason,
        "message": message,
        "metrics": {"eval/loss": 2.0},
        "seconds": 1.5,
        "folder": "outputs/runs/x",
    }
    (folder / "result.json").write_text(json.dumps(content))


def main(way: str, folder: Path) -> int:
    """End that way."""
    print("begins", flush=True)
    if way == "ok":
        result(folder, "finished")
    elif way == "nan":
        result(folder, "failed", "nan", "the loss is nan after 3 steps")
        return 1
    elif way == "oom":
        result(folder, "infeasible", "oom", "can't allocate memory")
        return 3
    elif way == "crash":
        raise RuntimeError("the middle of nowhere")
    elif way == "silent":
        return 0
    elif way == "environment":
        (folder / "environment.json").write_text(json.dumps(dict(os.environ)))
    elif way in ("SIGKILL", "SIGSEGV", "SIGTERM"):
        os.kill(os.getpid(), getattr(signal, way))
    elif way in ("sleep", "stubborn", "polite", "family"):
        wait(way, folder)
    return 0


def wait(way: str, folder: Path) -> None:
    """Sleep for a minute, answering signals in the named way; ``ready`` appears once they are set up."""
    if way == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if way == "family":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        (folder / "child").write_text(str(child.pid))
        result(folder, "finished")
        return
    try:
        (folder / "ready").touch()
        time.sleep(60)
    except KeyboardInterrupt:
        if way == "polite":
            result(folder, "stopped", "interrupted", "stopped after 7 of 10 steps")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
