"""How long the command line takes to answer: medians of wall seconds, each from a process of its own.

python benchmarks/command_line.py [repeats]
"""

import os
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "--help": ["--help"],
    "two faults": ["sft.epoch=5", "zero=7"],
    "--cfg job": ["--cfg", "job"],
    "completion": ["-sc", "query=bash"],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "rlhf", *arguments],
        env={**os.environ, "COMP_LINE": "rlhf model=opt", "COMP_POINT": "14"},
        capture_output=True,
    )
    return time.perf_counter() - start


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for name, arguments in COMMANDS.items():
        seconds(arguments)  # fills the disk cache
        times = sorted(seconds(arguments) for _ in range(repeats))
        print(
            f"{name:<12} median {statistics.median(times):.2f} s, best {times[0]:.2f} s, worst {times[-1]:.2f} s, of {repeats}"
        )


if __name__ == "__main__":
    main()
