"""A trial that ends by its learning rate: 1e30 NaN, 1e9 does not fit by plan, 1e8 a crash, 1e7 killed, 1e6 waits for a file."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path


def main(folder: Path) -> int:
    """Read the frozen learning rate, note that it ran, end."""
    sft = (folder / "config.yaml").read_text().partition("\nsft:")[2]
    found = re.search(r"learning_rate: (\S+)", sft)
    assert found
    rate = float(found[1])
    outputs = folder.parents[3]
    with (outputs / "ran").open("a") as log:
        log.write(f"{rate}\n")
    ends = {1e30: ("failed", "nan"), 1e9: ("infeasible", "plan")}
    if rate == 1e8:
        raise RuntimeError("as asked")
    if rate == 1e7 and not (outputs / "spare").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    status, reason = ends.get(rate, ("finished", ""))
    try:
        while rate == 1e6 and not (outputs / "spare").exists():
            time.sleep(0.01)
    except KeyboardInterrupt:
        status, reason = "stopped", "interrupted"
    about = {"status": status, "stage": "sft", "model": "tiny", "run_signature": "r", "result_signature": "s"}
    metrics = {"eval/loss": rate * 100, "eval/perplexity": 3.0} if status == "finished" else {}
    message = "" if status == "finished" else f"ended as {reason}\nand more"
    content = {**about, "reason": reason, "message": message, "metrics": metrics, "seconds": 1.5, "folder": "runs/x"}
    (folder / "result.json").write_text(json.dumps(content))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
