"""Makes the folder of a study with plausible rows, for tests and to look at: ``python -m tests.sweeps.made DIR TRIALS``."""

import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.result import Result, Status
from rlhf.sealed import write_atomically

BEGAN = 1_700_000_000.0
LANES = 3
SPACE = [
    {"key": "sft.learning_rate", "name": "sft.learning_rate", "low": 1e-5, "high": 1e-2, "log": True, "whole": False},
    {"key": "sft.micro_batch_size", "name": "sft.micro_batch_size", "values": [1, 2, 4, 8, 16]},
    {"key": "lora", "name": "lora", "values": ["none", "dim8", "dim64"]},
    {"key": "zero", "name": "zero", "values": ["none", "2", "3"]},
    {"key": "lora.alpha", "name": "lora.alpha if lora!=none", "values": [16, 32]},
]


def book(**changed: Any) -> dict[str, Any]:
    """A ``study.json`` without trials."""
    return {
        "stage": "sft",
        "model": "tiny",
        "mode": "tune",
        "seeds": [1],
        "objectives": [{"metric": "eval/loss", "direction": "minimize"}],
        "constraints": ["mem/peak_gib <= 40"],
        "space": SPACE,
        "fixed": ["data=demo"],
        "left_out": {},
        "words": ["stage=sft", "sweep=mine", "data=demo"],
        "planned": None,
        "at_once": LANES,
        "usd_per_hour": 2.0,
        "settings": {"name": "made", "sampler": "tpe", "trials": None, "pruner": "none"},
        "sessions": [{"began": BEGAN, "ended": BEGAN + 10.0}],
        "trials": [],
        "runs": [],
        **changed,
    }


def trial(number: int, point: Mapping[str, Any], status: str = "finished", reason: str = "") -> dict[str, Any]:
    """One of the trials of a book."""
    overrides = ["stage=sft", "sweep=mine", "data=demo", *(f"{key}={value}" for key, value in point.items())]
    return {"number": number, "overrides": overrides, "point": dict(point), "status": status, "reason": reason}


def put(
    study: Path,
    each: Mapping[str, Any],
    metrics: Mapping[str, float],
    message: str = "",
    curve: Sequence[float] = (),
    **took: Any,
) -> None:
    """Leave the result of a trial, and the record of its run with a ``curve`` of the loss at its evaluations."""
    run = study.parents[1] / "runs" / f"sft-tiny-{each['number']:04d}"
    run.mkdir(parents=True, exist_ok=True)
    folder = study / "trials" / f"{each['number']:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    (run / "config.yaml").write_text("stage: sft\n")
    rows: list[dict[str, Any]] = []
    for at, loss in enumerate(curve):
        about = {"round": at * 10, "seconds": at * 2.0}
        if at:
            rows.append({**about, "kind": "train", "loss": loss, "time/train_s": 1.5, "progress/tokens": at * 20480.0})
        rows.append({**about, "kind": "eval", "eval/loss": loss})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = Result(
        Status[each["status"]],
        "sft",
        "tiny",
        f"{each['number']:04d}",
        "s",
        reason=each["reason"],
        message=message,
        metrics=dict(metrics),
        folder=str(run),
        **took,
    )
    (folder / "result.json").write_text(result.to_json())


def study(path: Path, trials: int, seed: int = 0, **changed: Any) -> Path:
    """A search of ``trials`` trials in ``path``/studies/made: most finish, some do not fit, some go wrong, the last runs."""
    folder, draw = path / "studies/made", random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lanes = [BEGAN + 60.0] * LANES
    runs = [_stay("parents/pretrain-5f3a91c2", BEGAN, BEGAN + 60.0)]
    made = []
    for number in range(trials):
        point: dict[str, Any] = {
            "sft.learning_rate": 10 ** draw.uniform(-5, -2),
            "sft.micro_batch_size": draw.choice([1, 2, 4, 8, 16]),
            "lora": draw.choice(["none", "dim8", "dim64"]),
            "zero": draw.choice(["none", "2", "3"]),
        }
        if point["lora"] != "none":
            point["lora.alpha"] = draw.choice([16, 32])
        each = trial(number, point, *_end(draw, point))
        lane = lanes.index(min(lanes))
        seconds = draw.uniform(60, 200) * (0.2 if each["status"] == "infeasible" else 1.0)
        runs.append(_stay(f"trials/{number:04d}", lanes[lane], lanes[lane] + seconds, each["status"], each["reason"]))
        lanes[lane] += seconds
        made.append(each)
        _leave(folder, each, draw, seconds)
    parent = Result(Status.finished, "pretrain", "tiny", "p", "p", seconds=60.0, cost_usd=0.033)
    (folder / "parents/pretrain-5f3a91c2").mkdir(parents=True, exist_ok=True)
    (folder / "parents/pretrain-5f3a91c2/result.json").write_text(parent.to_json())
    sessions = [{"began": BEGAN, "ended": max(lanes)}]
    ran = sum(not each["reason"].startswith("dominated") for each in made)
    write_atomically(
        folder / "study.json",
        json.dumps(book(trials=made, runs=runs, sessions=sessions, planned=ran, **changed)),
    )
    return folder


def _stay(folder: str, began: float, ended: float, status: str = "finished", reason: str = "") -> dict[str, Any]:
    return {"folder": folder, "began": began, "ended": ended, "status": status, "reason": reason}


def _end(draw: random.Random, point: Mapping[str, Any]) -> tuple[str, str]:
    if point["lora"] == "none" and point["sft.micro_batch_size"] == 16 and point["zero"] == "none":
        return ("infeasible", "oom") if draw.random() < 0.5 else ("infeasible", "dominated by #3")
    if point["sft.learning_rate"] > 6e-3:
        return "failed", "nan"
    return draw.choices([("finished", ""), ("pruned", ""), ("failed", "crash")], [0.85, 0.12, 0.03])[0]


def _leave(folder: Path, each: Mapping[str, Any], draw: random.Random, seconds: float) -> None:
    point, status = each["point"], each["status"]
    adapters = {"none": 0.0, "dim8": 0.06, "dim64": 0.02}[point["lora"]]
    aim = 2.0 + 0.25 * (math.log10(point["sft.learning_rate"]) + 3.2) ** 2 + adapters + draw.gauss(0, 0.02)
    batch = point["sft.micro_batch_size"]
    memory = 6.0 + 2.4 * batch * (1.0 if point["lora"] == "none" else 0.8) / (1.3 if point["zero"] == "3" else 1.0)
    evaluations = 12 if status in ("finished", "failed") else 5
    curve = [aim + 2.5 * math.exp(-at / 3) + draw.gauss(0, 0.01) for at in range(evaluations)]
    messages = {
        "nan": "the loss is nan after 41 steps; lower sft.learning_rate",
        "crash": "RuntimeError: connection reset",
        "oom": "out of memory in the first step",
    }
    metrics = {}
    if status in ("finished", "pruned"):
        metrics = {"eval/loss": curve[-1], "eval/loss_low": curve[-1] - 0.03, "eval/loss_high": curve[-1] + 0.03}
        metrics["perf/tokens_per_second"] = 900 * batch**0.4 * draw.uniform(0.95, 1.05) * (0.8 if point["zero"] == "3" else 1)
    put(
        folder,
        each,
        metrics,
        messages.get(each["reason"], ""),
        [] if status == "infeasible" else curve,
        seconds=seconds,
        cost_usd=seconds / 1800,
        peak_memory_gib=memory,
    )


if __name__ == "__main__":
    print(study(Path(sys.argv[1]), int(sys.argv[2])))
