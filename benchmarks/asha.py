"""ASHA against training every point to its end: a `tune_sft` of 64 points of the built-in demo.

    python benchmarks/asha.py --outputs outputs/asha
    python benchmarks/asha.py --outputs outputs/asha --live 3

Every point is trained once, evaluated on the way, as one study, and the best point under further seeds. Then the pruner
of `sweep.pruner` is replayed over the recorded curves, the points arriving in another order each repetition, several at a
time: the same rule, asked at the same evaluations with what had been recorded by then. With `--live N` that many studies are
really run with the pruner on, each in another order. Prints a table in Markdown; runs that are there are not trained again.
"""

import argparse
import heapq
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlhf import config
from rlhf.config import SweepConfig
from rlhf.result import OBJECTIVES, Result, Status
from sweeps.curves import Curve, read
from sweeps.pruning import Judgement

FIXED = (  # a two-layer network, 54 steps, evaluated 27 times
    *("stage=sft", "debug=smoke", "sft.max_steps=54", "sft.epochs=1000", "sft.eval_every=2", "sft.save_every=0"),
    *("sft.batch_size=16", "sft.micro_batch_size=16", "data.max_train_examples=2000"),
    *("evaluation.prompts=1", "evaluation.examples=64", "evaluation.samples=1"),
)
AXES = (("sft.schedule", "cosine,constant"), ("sft.warmup_steps", "0,20"), ("sft.weight_decay", "0.0,0.1"))
LOWEST_RATE, HIGHEST_RATE = 1e-4, 1e-1
METRIC = OBJECTIVES["sft"].metric
Curves = dict[int, Curve]


@dataclass
class Replay:
    """What a replay came to: tokens trained, of all that there were, and the best trial that came to its end."""

    tokens: float
    ended: int
    winner: int
    loss: float


def main() -> None:
    """Train what is missing, replay or run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=Path, required=True)
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=5, help="of the best point")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--pruner", default="asha")
    parser.add_argument("--live", type=int, default=0, metavar="N", help="also run N studies with the pruner on")
    parser.add_argument("overrides", nargs="*", help="further settings, key=value, of the runs and of the pruner")
    arguments = parser.parse_args()
    grid, overrides = space(arguments.points), list(arguments.overrides)
    folder = study(arguments.outputs, "exhaustive", grid, arguments.parallel, overrides)
    curves = {number: read(Path(result.folder)) for number, result in results(folder).items() if finished(result)}
    finals = {number: final(curve) for number, curve in curves.items()}
    best = min(finals, key=lambda number: finals[number])
    low, high = seed_interval(arguments, folder / "trials" / f"{best:04d}", overrides)
    everything = sum(curve[-1].tokens for curve in curves.values())
    print(f"{len(curves)} of {arguments.points} points finished, {everything:.0f} tokens in all")
    print(f"best: {best:04d}, {METRIC} {finals[best]:.4f}; {arguments.seeds} seeds of it: [{low:.4f}, {high:.4f}]\n")
    print("run | tokens | of all | came to their end | winner | its loss | inside the seeds' interval")
    print("--- | --- | --- | --- | --- | --- | ---")
    sweep = settings(arguments.pruner, overrides)
    for repetition in range(arguments.repetitions):
        order = list(curves)
        random.Random(repetition).shuffle(order)
        for name, again in (("", False), (" with promotion", True)):
            print(
                row(f"order {repetition}{name}", replay(curves, order, sweep, arguments.parallel, again), everything, low, high)
            )
    for repetition in range(arguments.live):
        pruner = [f"sweep.pruner={arguments.pruner}", f"paths.outputs={arguments.outputs / f'live-{repetition}'}"]
        # The order is that of a hash of all settings: more text to show, which no loss depends on, makes another one.
        pruner.append(f"evaluation.max_new_tokens={2 + repetition}")
        live = study(arguments.outputs, arguments.pruner, grid, arguments.parallel, [*overrides, *pruner])
        print(row(f"live {repetition}", of_study(live), everything, low, high), flush=True)


def space(points: int) -> list[str]:
    """A grid of ``points`` points: learning rates, by as many of ``AXES`` as divide them."""
    axes = 0
    while axes < len(AXES) and points % 2 ** (axes + 1) == 0:
        axes += 1
    count = points // 2**axes
    step = (HIGHEST_RATE / LOWEST_RATE) ** (1 / max(1, count - 1))
    rates = ",".join(f"{LOWEST_RATE * step**place:.2g}" for place in range(count))
    return [f"sft.learning_rate={rates}", *(f"{key}={values}" for key, values in AXES[:axes])]


def study(outputs: Path, name: str, grid: list[str], parallel: int, overrides: list[str]) -> Path:
    """Run a study, or what is left of it, and return its folder."""
    mine = [f"sweep.name={name}", f"sweep.parallel={parallel}"]
    if not any(each.startswith("paths.outputs=") for each in overrides):
        mine.append(f"paths.outputs={outputs}")
    subprocess.run([sys.executable, "-m", "rlhf", "-m", *FIXED, *grid, *mine, *overrides], check=True, stdout=sys.stderr)
    place = next((each.partition("=")[2] for each in overrides if each.startswith("paths.outputs=")), str(outputs))
    return Path(place) / "studies" / name


def results(folder: Path) -> dict[int, Result]:
    """How the trials of a study ended, by number."""
    found = {int(path.name): Result.read(path / "result.json") for path in sorted((folder / "trials").glob("[0-9]*"))}
    return {number: result for number, result in found.items() if result is not None}


def finished(result: Result) -> bool:
    """Whether a run came to its end."""
    return result.status is Status.finished


def final(curve: Curve) -> float:
    """The loss a run ends with; infinite if it is no number."""
    loss = curve[-1].values[METRIC]
    return loss if math.isfinite(loss) else math.inf


def seed_interval(arguments: argparse.Namespace, trial: Path, overrides: list[str]) -> tuple[float, float]:
    """Where the loss of a run of ``trial``'s point falls by its seed: mean and two standard deviations to both sides."""
    written = (trial / "overrides.txt").read_text().splitlines()
    keys = ("sft.learning_rate", *(key for key, _ in AXES))
    point = [each for each in written if each.partition("=")[0] in keys]
    seeds = ",".join(map(str, range(1, arguments.seeds + 1)))
    folder = study(arguments.outputs, f"seeds-{trial.name}", [*point, f"seed={seeds}"], arguments.parallel, overrides)
    losses = [result.metrics[METRIC] for result in results(folder).values() if finished(result)]
    mean, spread = statistics.mean(losses), statistics.stdev(losses) if len(losses) > 1 else 0.0
    return mean - 2 * spread, mean + 2 * spread


def settings(pruner: str, overrides: list[str]) -> SweepConfig:
    """The pruner's settings: the defaults, and what the command line says."""
    mine = [each for each in overrides if each.startswith("sweep.")]
    config.register()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        sweep = OmegaConf.to_object(compose("config", [f"sweep.pruner={pruner}", *mine]).sweep)
    assert isinstance(sweep, SweepConfig)
    return sweep


def replay(curves: Curves, order: list[int], sweep: SweepConfig, parallel: int, promotion: bool) -> Replay:
    """Train the points of ``order`` from their records, ``parallel`` at a time, with the pruner on.

    Time is counted in tokens. With ``promotion`` a place that is free goes to a pruned trial that is among the best by
    then, if there is one, before it goes to the next point.
    """
    judgement = Judgement(sweep, [OBJECTIVES["sft"]])
    seen: dict[int, int] = {}
    pruned: set[int] = set()
    skips: dict[int, int] = {}
    running: list[tuple[float, int]] = []
    waiting, clock = list(order), 0.0

    def others(trial: int) -> Curves:
        return {number: curves[number][:count] for number, count in seen.items() if number != trial and count}

    def train_on(trial: int) -> None:
        count = seen[trial]
        before = curves[trial][count - 1].tokens if count else 0.0
        heapq.heappush(running, (clock + curves[trial][count].tokens - before, trial))

    def start() -> None:
        again = [each for each in sorted(pruned) if judgement.promotable(each, curves[each][: seen[each]], others(each))]
        if promotion and again:
            pruned.remove(again[0])
            train_on(again[0])
        elif waiting:
            seen[waiting[0]] = 0
            train_on(waiting.pop(0))

    for _ in range(parallel):
        start()
    while running:
        clock, trial = heapq.heappop(running)
        seen[trial] += 1
        if seen[trial] == len(curves[trial]):
            start()
            continue
        if skips.get(trial):
            skips[trial] -= 1
            train_on(trial)
            continue
        verdict = judgement.verdict(trial, curves[trial][: seen[trial]], others(trial))
        skips[trial] = verdict.skip
        if verdict.go:
            train_on(trial)
        else:
            pruned.add(trial)
            start()
    return summed({number: curves[number][:count] for number, count in seen.items()}, lambda number: number not in pruned)


def of_study(folder: Path) -> Replay:
    """What a study came to that was really run with a pruner."""
    found = results(folder)
    curves = {number: read(Path(result.folder)) for number, result in found.items()}
    return summed({number: curve for number, curve in curves.items() if curve}, lambda number: finished(found[number]))


def summed(curves: Curves, ended: Callable[[int], bool]) -> Replay:
    """Tokens of all trials, and the best of those that ``ended``."""
    losses = {number: final(curve) for number, curve in curves.items() if ended(number)}
    winner = min(losses, key=lambda number: losses[number])
    return Replay(sum(curve[-1].tokens for curve in curves.values()), len(losses), winner, losses[winner])


def row(name: str, came_to: Replay, everything: float, low: float, high: float) -> str:
    """One row of the table."""
    part = f"{100 * came_to.tokens / everything:.1f} %"
    inside = "yes" if came_to.loss <= high else "no"
    cells = [name, f"{came_to.tokens:.0f}", part, came_to.ended, f"{came_to.winner:04d}", f"{came_to.loss:.4f}", inside]
    return " | ".join(map(str, cells))


if __name__ == "__main__":
    main()
