"""A trial that ends by its learning rate: 1e30 NaN, 1e9 does not fit by plan, 1e8 a crash, 1e7 killed, 1e6 waits for a file.

Any other: its loss is 100 times the rate, plus the seed / 1000. More than 100 sequences at once (or as many as the
file `memory` says) are out of memory.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml


def main(folder: Path) -> int:
    """Note that it ran, end."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    stage, sft = config["stage"], config["sft"]
    rate = float(sft["learning_rate"])
    outputs = Path(config["paths"]["outputs"])
    with (outputs / "ran").open("a") as log:
        log.write(f"{rate}\n")
    with (outputs / "ran_as").open("a") as log:
        log.write(f"{stage} {config['seed']}\n")
    ends = {1e30: ("failed", "nan"), 1e9: ("infeasible", "plan")}
    if rate == 1e8:
        raise RuntimeError("as asked")
    if rate == 1e7 and not (outputs / "spare").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    status, reason = ends.get(rate, ("finished", ""))
    room = int((outputs / "memory").read_text()) if (outputs / "memory").exists() else 100
    if stage == "sft" and sft["micro_batch_size"] > room:
        status, reason = "infeasible", "oom"
    try:
        while rate == 1e6 and not (outputs / "spare").exists() and not (folder / "spare").exists():
            time.sleep(0.01)
    except KeyboardInterrupt:
        status, reason = "stopped", "interrupted"
    about = {"status": status, "stage": stage, "model": "tiny", "run_signature": "r", "result_signature": "s"}
    loss = rate * 100 + (config["seed"] - 1) / 1000
    metrics = {"eval/loss": loss, "eval/perplexity": 3.0, "reward/gain": 1.0} if status == "finished" else {}
    message = "" if status == "finished" else f"ended as {reason}\nand more"
    took = {"seconds": 1.5, "cost_usd": 0.5, "peak_memory_gib": float(sft["micro_batch_size"])}
    content = {**about, **took, "reason": reason, "message": message, "metrics": metrics, "folder": "runs/x"}
    (folder / "result.json").write_text(json.dumps({**content, "seed": config["seed"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
