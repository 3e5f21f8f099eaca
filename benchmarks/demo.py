"""The built-in demo over several seeds: how long it takes, what the reward model learns, what PPO gains in truth.

    python benchmarks/demo.py --seeds 0 1 2 3 4 --outputs outputs/benchmark

Each seed is one fresh `python -m rlhf`; wall time is the whole process, imports included. Prints a table in Markdown.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COLUMNS = (
    "seed | wall s | sft s | rm s | ppo s | Bayes | length | bag of words | RM accuracy | x Bayes | corr. SFT | corr. PPO | "
    "gold SFT | gold gain [95 %] | in SFT sd | KL nats | repetition SFT > PPO"
)


def main() -> None:
    """Run the seeds and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="further settings, key=value")
    arguments = parser.parse_args()
    print(COLUMNS)
    print(" | ".join("---" for _ in COLUMNS.split(" | ")))
    for seed in arguments.seeds:
        outputs = arguments.outputs / f"seed{seed}"
        began = time.perf_counter()
        command = [sys.executable, "-m", "rlhf", f"seed={seed}", f"paths.outputs={outputs}", *arguments.overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(row(seed, time.perf_counter() - began, outputs), flush=True)


def row(seed: int, wall: float, outputs: Path) -> str:
    """One row of the table, from the records of the three runs."""
    stages = {stage: next((outputs / "runs").glob(f"{stage}-*")) for stage in ("sft", "rm", "ppo")}
    results = {stage: json.loads((folder / "result.json").read_text()) for stage, folder in stages.items()}
    rm, ppo = results["rm"]["metrics"], results["ppo"]["metrics"]
    start = first_evaluation(stages["ppo"])
    cells = [
        str(seed),
        f"{wall:.0f}",
        *(f"{results[stage]['seconds']:.0f}" for stage in ("sft", "rm", "ppo")),
        *(f"{rm[f'baseline/{name}']:.3f}" for name in ("bayes", "longer_wins", "bag_of_words")),
        f"{rm['eval/accuracy']:.3f}",
        f"{rm['eval/accuracy'] / rm['baseline/bayes']:.3f}",
        f"{start['reward/gold_correlation']:.2f}",
        f"{ppo['reward/gold_correlation']:.2f}",
        f"{start['reward/gold_mean']:.2f}",
        f"{ppo['reward/gold_gain']:.2f} [{ppo['reward/gold_gain_low']:.2f}, {ppo['reward/gold_gain_high']:.2f}]",
        f"{ppo['reward/gold_gain'] / ppo['reward/gold_sd_sft']:.2f}",
        f"{ppo['eval/kl']:.2f}",
        f"{start['response/repetition']:.3f} > {ppo['response/repetition']:.3f}",
    ]
    return " | ".join(cells)


def first_evaluation(folder: Path) -> dict[str, Any]:
    """The evaluation before the first update, which is the SFT policy's."""
    with (folder / "metrics.jsonl").open() as rows:
        first: dict[str, Any] = json.loads(rows.readline())
    assert first["kind"] == "eval" and first["round"] == 0
    return first


if __name__ == "__main__":
    main()
