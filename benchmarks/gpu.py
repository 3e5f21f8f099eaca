"""What a GPU shows: memory peaks and throughput of every stage in bf16 under ZeRO 0-3, for OPT-125m and OPT-1.3B.

    python benchmarks/gpu.py --outputs outputs/gpu [--models opt125m opt1.3b] [--ranks 1] [key=value ...]

Networks of the models' sizes with random weights and the demo's data, so nothing is downloaded: speed and memory do not
depend on what the weights are. Each stage is one study, one trial at a time, twenty steps (PPO: four updates) a cell.
Prints a table in Markdown. With `--try` the same on a CPU with the smallest shape, to see that the script holds together.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

STEPS = {
    "sft": ["sft.max_steps=20", "sft.batch_size=16", "sft.micro_batch_size=8", "sft.max_length=512"],
    "rm": ["rm.max_steps=20", "rm.batch_size=16", "rm.micro_batch_size=8", "rm.max_length=512"],
    "ppo": [
        *("ppo.updates=4", "ppo.batch_size=32", "ppo.micro_batch_size=8", "ppo.minibatches=2", "ppo.critic_warmup=0"),
        *("rollout.max_new_tokens=128", "rollout.micro_batch_size=32", "sft.max_steps=20", "rm.max_steps=20"),
    ],
}
WITHOUT_WEIGHTS = ["model.path=null", "model.template=roles", "reward_model.path=null", "reward_model.template=roles"]
ON_A_CPU = ["debug=smoke", "precision=fp32", "device=cpu"]
SHOWN = ("status", "reason", "peak_memory_gib", "perf/tokens_per_second", "seconds")


def main() -> None:
    """Run the studies and print one row a cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["opt125m", "opt1.3b"])
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--try", dest="on_cpu", action="store_true")
    parser.add_argument("overrides", nargs="*", help="further settings, key=value")
    asked = parser.parse_args()
    print(" | ".join(["model", "stage", "zero", "status", "reason", "peak GiB", "tokens/s", "s"]))
    print(" | ".join(["---"] * 8))
    for model in asked.models:
        for stage, steps in STEPS.items():
            name = f"gpu-{model}-{stage}"
            settings = ON_A_CPU if asked.on_cpu else ["precision=bf16", *steps]
            command = [
                *(sys.executable, "-m", "rlhf", "-m", f"stage={stage}", f"model={model}", f"reward_model={model}", "data=demo"),
                *("zero=0,1,2,3", f"ranks={asked.ranks}", f"sweep.name={name}", "sweep.parallel=1", "tracker=none"),
                *(f"paths.outputs={asked.outputs}", *WITHOUT_WEIGHTS, *settings, *asked.overrides),
            ]
            subprocess.run(command, check=True, stdout=sys.stderr)
            with (asked.outputs / "studies" / name / "trials.csv").open(newline="") as rows:
                for row in csv.DictReader(rows):
                    print(" | ".join([model, stage, row["zero"], *(row.get(column) or "" for column in SHOWN)]), flush=True)


if __name__ == "__main__":
    main()
