"""What it saves that parents are trained once: a PPO sweep whose cells share SFT policy and reward model, and one whose do not.

python benchmarks/reuse.py [--cells 16]

Two studies of real runs on one slot: N values of `ppo.kl_coef`, which leave the parents as they are, and N seeds, each of which
asks for parents of its own. Besides that they do the same work. If s, r and p are the mean seconds of an SFT, a reward-model
and a PPO run, the ratio of their totals should be N (s + r + p) / (s + r + N p).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SIZE = ["debug=smoke", "sft.max_steps=60", "rm.max_steps=60", "ppo.updates=24"]


def study(outputs: Path, axis: str) -> tuple[float, dict[str, list[float]]]:
    """Wall seconds of a study, and the seconds of its runs by stage."""
    words = ["stage=ppo", *SIZE, axis, "sweep.name=s", "sweep.parallel=1", "sweep.threads=1", "tracker=none"]
    command = [sys.executable, "-m", "rlhf", "-m", *words, f"paths.outputs={outputs}"]
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    runs: dict[str, list[float]] = {}
    for path in sorted(outputs.glob("runs/*/result.json")):
        result = json.loads(path.read_text())
        assert result["status"] == "finished", path
        runs.setdefault(result["stage"], []).append(result["seconds"])
    return wall, runs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=16)
    cells = parser.parse_args().cells
    coefficients = ",".join(f"{(number + 1) / 100:g}" for number in range(cells))
    seeds = ",".join(map(str, range(1, cells + 1)))
    with tempfile.TemporaryDirectory() as place:
        together, shared = study(Path(place) / "together", f"ppo.kl_coef={coefficients}")
        apart, own = study(Path(place) / "apart", f"seed={seeds}")
    print("runs, parents shared:", {stage: len(each) for stage, each in shared.items()})
    print("runs, parents of their own:", {stage: len(each) for stage, each in own.items()})
    sft, rm, ppo = (statistics.fmean(own[stage]) for stage in ("sft", "rm", "ppo"))
    expected = cells * (sft + rm + ppo) / (sft + rm + cells * ppo)
    totals = [sum(map(sum, each.values())) for each in (own, shared)]
    print(f"mean seconds: sft {sft:.2f}, rm {rm:.2f}, ppo {ppo:.2f}; the arithmetic gives {expected:.2f}")
    print(f"seconds of all runs: {totals[0]:.1f} against {totals[1]:.1f}, {totals[0] / totals[1]:.2f} times")
    print(f"wall seconds: {apart:.1f} against {together:.1f}, {apart / together:.2f} times")


if __name__ == "__main__":
    main()
