"""Over-optimisation on the demo: the score rises to the end, the gold reward rises and falls; `early_stop` ends near its top.

    python benchmarks/overoptimise.py --seeds 0 1 2 --outputs outputs/overoptimise

For each seed `experiment=over_optimised`, to its end and with each way to stop it; all share the seed's SFT policy and reward
model. Prints the curve of each seed, then a table, both in Markdown. Gold is the known reward of the demo, averaged over
held-out prompts, and not its gain over the start.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rlhf.doctor.examine import examine
from rlhf.report.folder import read

WAYS = {
    "to the end": (),
    "KL": ("early_stop.max_kl=3",),
    "gold": ("early_stop.metric=reward/gold_gain", "early_stop.patience=2", "ppo.keep_best=true"),
}
Row = dict[str, Any]


def main() -> None:
    """Run the seeds; print curves, then a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("overrides", nargs="*", help="further settings, key=value")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        settings = (f"seed={seed}", f"paths.outputs={arguments.outputs}", "tracker=none", *arguments.overrides)
        results = {way: run(*settings, *stops) for way, stops in WAYS.items()}
        long = Path(results["to the end"]["folder"])
        print(curve(seed, evaluations(long)), flush=True)
        rows.append(row(seed, results, evaluations(long)))
    print("seed | gold before > top > end | KL at the top > end | score gain at the top > end | doctor | " + STOPPED)
    print(" | ".join(["---"] * 11))
    print("\n".join(rows))


STOPPED = " | ".join(f"by {way}: update | KL | gold, of the top" for way in WAYS if WAYS[way])


def run(*settings: str) -> Row:
    """Run it, or find it where it ran before; its result."""
    command = [sys.executable, "-m", "rlhf", "experiment=over_optimised", *settings]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    line = next(line for line in told.splitlines()[::-1] if line.startswith("The model is in "))
    folder = Path(line.removeprefix("The model is in ").partition("/artifact")[0])
    found: Row = json.loads((folder / "result.json").read_text())
    return found


def evaluations(folder: Path) -> list[Row]:
    """The rows of evaluations, the one before the first update included."""
    with (folder / "metrics.jsonl").open() as lines:
        return [each for each in map(json.loads, lines) if each["kind"] == "eval"]


def curve(seed: int, rows: list[Row]) -> str:
    """KL, score and gold over the updates of a run."""
    lines = [f"seed {seed}: update | KL | score gain | gold | correlation", " | ".join(["---"] * 5)]
    names = ("eval/kl", "reward/gain", "reward/gold_mean", "reward/gold_correlation")
    lines += [" | ".join([str(each["round"]), *(f"{each[name]:.2f}" for name in names)]) for each in rows]
    return "\n".join(lines) + "\n"


def row(seed: int, results: dict[str, Row], rows: list[Row]) -> str:
    """One row of the table: the hump, and where it was stopped."""
    top, end = max(rows, key=lambda each: each["reward/gold_mean"]), rows[-1]
    highest = top["reward/gold_mean"]
    named = {each.name for each in examine(read(Path(results["to the end"]["folder"])))}
    cells = [
        str(seed),
        " > ".join(f"{each['reward/gold_mean']:.2f}" for each in (rows[0], top, end)),
        f"{top['eval/kl']:.1f} > {end['eval/kl']:.1f}",
        f"{top['reward/gain']:.2f} > {end['reward/gain']:.2f}",
        "over-optimised" if "over-optimised" in named else "not named",
    ]
    for way in (way for way, stops in WAYS.items() if stops):
        result = results[way]
        metrics = result["metrics"]
        assert result["reason"] == "early_stop", result["folder"]
        last = evaluations(Path(result["folder"]))[-1]["round"]
        gold = metrics["reward/gold_mean"]
        cells += [str(last), f"{metrics['eval/kl']:.1f}", f"{gold:.2f}, {100 * gold / highest:.0f} %"]
    return " | ".join(cells)


if __name__ == "__main__":
    main()
