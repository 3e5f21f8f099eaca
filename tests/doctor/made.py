"""Records of runs, made up."""

import json
from pathlib import Path
from typing import Any

from rlhf.report.folder import RunFolder, read

Rows = list[dict[str, Any]]
CONFIG = """
precision: fp32
rollout: {top_p: 1.0, temperature: 1.0}
sft: {targets: response, learning_rate: 0.01, schedule: linear, warmup_steps: 0}
ppo: {reward_clip: null, whiten_advantages: true, reward_normalization: reference, kl_estimator: k1, kl_target: null}
kto: {beta: 0.1, desirable_weight: 1.0, undesirable_weight: 1.0}
"""


def record(folder: Path, stage: str, rows: Rows, config: str = CONFIG) -> RunFolder:
    """A run of ``stage`` whose rows come one a round; those with a metric of evaluations are evaluations."""
    path = folder / f"{stage}-tiny-00000000"
    path.mkdir()
    (path / "config.yaml").write_text(config)
    held_out = ("eval/", "reward/", "response/")
    kinds = ["eval" if any(name.startswith(held_out) for name in row) else "train" for row in rows]
    lines = [{"round": at, "kind": kind, "seconds": 0.0, **row} for at, (kind, row) in enumerate(zip(kinds, rows, strict=True))]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = {
        "status": "finished",
        "stage": stage,
        "model": "tiny",
        "run_signature": "0",
        "result_signature": "0",
        "metrics": {},
    }
    (path / "result.json").write_text(json.dumps(result))
    return read(path)
