"""Folders of runs made by hand, as small as they can be."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlhf.result import Result, Status

Rows = Sequence[Mapping[str, Any]]


def run(folder: Path, overrides: Mapping[str, Any] = {}, stage: str = "ppo", **parts: Any) -> Path:
    """A finished run of ``stage`` with ``overrides`` over a few keys.

    Args:
        parts: ``metrics`` (at the end), ``rows``, ``samples``, ``scores``, ``parents``, ``environment``, ``told``
            (lines of overrides.txt) and ``seconds``.
    """
    folder.mkdir(parents=True)
    config = OmegaConf.create(
        {
            "stage": stage,
            "seed": 1,
            "ranks": 1,
            "zero": "none",
            "model": {"name": "tiny"},
            "data": {"name": "demo", "eval_fraction": 0.1, "sources": {"demo": {"path": "world"}}},
            "sft": {"epochs": 2.0, "init": "base", "batch_size": 4},
            "rm": {"epochs": 1.0, "init": "base", "batch_size": 4},
            "ppo": {"kl_coef": 0.1, "learning_rate": 1e-4, "init": "sft", "batch_size": 8, "micro_batch_size": 4},
            "reward": {"kind": "model"},
            "evaluation": {"prompts": 4, "micro_batch_size": 2},
            "hardware": {"usd_per_hour": None},
        }
    )
    for key, value in overrides.items():
        OmegaConf.update(config, key, value)
    OmegaConf.save(config, folder / "config.yaml")
    (folder / "overrides.txt").write_text("\n".join(parts.get("told", ())) + "\n")
    for name in ("metrics", "samples", "scores"):
        rows = parts.get("rows" if name == "metrics" else name, ())
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "environment.json").write_text(json.dumps(parts.get("environment", {})))
    result = Result(
        Status.finished,
        stage,
        "tiny",
        folder.name,
        parts.get("signature", folder.name),
        metrics=parts.get("metrics", {}),
        seconds=parts.get("seconds", 10.0),
        parents=parts.get("parents", {}),
        seed=config.seed,
        folder=str(folder),
    )
    (folder / "result.json").write_text(result.to_json())
    return folder


def curve(
    metric: str, points: Sequence[tuple[int, float]], kind: str = "eval", **axes: Sequence[float]
) -> list[dict[str, Any]]:
    """Rows of one metric; ``axes`` are further columns."""
    rows = []
    for at, (round_, value) in enumerate(points):
        columns = {name.replace("__", "/"): values[at] for name, values in axes.items()}
        rows.append({"round": round_, "kind": kind, "seconds": float(round_), metric: value, **columns})
    return rows
