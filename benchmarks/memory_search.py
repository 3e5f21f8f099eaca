"""How many runs out of memory does a study pay for? The 384-cell toy, through the shipped plans and record.

    python benchmarks/memory_search.py

A cell of ZeRO stage x offload x adapters x micro-batch x recomputed activations needs `memory` of 40 GiB and makes `speed`;
117 of the 384 do not fit. Nothing is trained: the toy stands where a trial's process would. The model of memory and the
figures to compare with (every cell 384 runs and 117 out of memory; a sampler told FAIL 41.6 of 60, told PRUNED 18.6) were
worked out before with Optuna alone.
"""

import itertools
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from rlhf.config import Run, Sampler
from rlhf.result import Objective, Result, Status
from sweeps.cells import Cell, Composer
from sweeps.goal import Goal
from sweeps.plan import DOMINATED, Characterization, Plan, Tuning
from sweeps.record import Entry, Record
from sweeps.space import Choices, Dimension, Point, Space

CAPACITY = 40.0
GOAL = Goal((Objective("speed", "maximize"),), ())
VALUES: dict[str, tuple[Any, ...]] = {
    "zero": (0, 1, 2, 3),
    "offload": ("none", "all"),
    "lora.dim": (0, 8, 64, 128),
    "sft.micro_batch_size": (1, 2, 4, 8, 16, 32),
    "sft.gradient_checkpointing": (False, True),
}
SPACE = Space(tuple(Dimension(key, key, Choices(values)) for key, values in VALUES.items()), (), (), {})


@dataclass(frozen=True)
class ToyCell(Cell):
    """A cell that needs no configuration."""

    @property
    def settings(self) -> dict[str, Any]:
        """Its point, on eight ranks."""
        return {"stage": "sft", "ranks": 8, **self.point}


class ToyComposer(Composer):
    """Makes cells of points without Hydra; no rule forbids any."""

    def cell(self, point: Point, seed: int | None = None) -> ToyCell:
        """The cell of ``point``."""
        return ToyCell(point, [], [], OmegaConf.create(), cast(Run, None), repr(sorted(point.items())))


def memory(point: Point) -> float:
    """GiB that a cell needs."""
    states = {0: 56, 1: 40, 2: 30, 3: 16}[point["zero"]]
    shared = states * (0.55 if point["lora.dim"] else 1.0) * (0.5 if point["offload"] == "all" else 1.0)
    return float(shared + point["sft.micro_batch_size"] * (0.8 if point["sft.gradient_checkpointing"] else 2.4))


def speed(point: Point) -> float:
    """What it is good for."""
    size = point["sft.micro_batch_size"]
    factors = (
        {0: 1.0, 1: 0.98, 2: 0.95, 3: 0.8}[point["zero"]],
        0.45 if point["offload"] == "all" else 1.0,
        0.75 if point["sft.gradient_checkpointing"] else 1.0,
        1.1 if point["lora.dim"] else 1.0,
    )
    return float(size / (1 + 0.18 * size) * factors[0] * factors[1] * factors[2] * factors[3])


def play(plan: Plan, record: Record) -> list[tuple[Entry, Result]]:
    """Run a plan to its end, one trial at a time."""
    ended = []
    while (found := plan.next()) is not None:
        entry = record.begin(len(ended), found.cell.digest, [], found.cell.point, found.proposal)
        result = Result(Status.finished, "sft", "toy", "", "", metrics={"speed": speed(found.cell.point)})
        if found.too_much is not None:
            result = Result(Status.infeasible, "sft", "toy", "", "", reason=f"{DOMINATED}{found.too_much}")
        elif memory(found.cell.point) > CAPACITY:
            result = Result(Status.infeasible, "sft", "toy", "", "", reason="oom")
        record.end(entry, result)
        if found.too_much is None:
            plan.ended(entry.number, found.cell, result)
        ended.append((entry, result))
    return ended


def counts(ended: list[tuple[Entry, Result]]) -> tuple[int, int]:
    """Runs, and how many of them ran out of memory."""
    ran = [result for _, result in ended if not result.reason.startswith(DOMINATED)]
    return len(ran), sum(result.reason == "oom" for result in ran)


def main() -> None:
    """Print one line for each mode."""
    composer = ToyComposer(SPACE)
    points = [dict(zip(VALUES, values, strict=True)) for values in itertools.product(*VALUES.values())]
    best = max(speed(point) for point in points if memory(point) <= CAPACITY)
    too_large = sum(memory(point) > CAPACITY for point in points)
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder), None, SPACE, GOAL, Sampler.random, 0)
        cells: list[Cell] = [composer.cell(point) for point in points]
        runs, out = counts(play(Characterization(cells, lambda cell: True, {}), record))
        print(f"every cell accounted for: {runs} runs, {out} out of memory, of {len(points)} cells, {too_large} too large")
    searched = []
    for seed in range(8):
        with tempfile.TemporaryDirectory() as folder:
            record = Record(Path(folder), None, SPACE, GOAL, Sampler.tpe, seed)
            ended = play(Tuning(record, composer, 60, lambda entry: False), record)
            found = max(result.metrics["speed"] for _, result in ended if result.status is Status.finished)
            searched.append((*counts(ended), found / best))
    runs_, outs, found_ = (statistics.fmean(column) for column in zip(*searched, strict=True))
    print(f"searched, mean of 8 seeds: {runs_:.1f} runs, {outs:.1f} out of memory, best found {found_:.3f} of the optimum")


if __name__ == "__main__":
    main()
