"""Over-optimisation with the real stages: `experiment=over_optimised` to the end of its hump, and `early_stop` near the top.

Some minutes, so it waits for ``-m slow``; ``test_over_optimisation.py`` is the quick form, ``benchmarks/overoptimise.py`` the
long one.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from rlhf import chain, composing, config
from rlhf.config import Run
from rlhf.doctor.examine import examine
from rlhf.report.folder import read

SIZE = ("experiment=over_optimised", "seed=1", "ppo.updates=25", "tracker=none")
STOPS = {
    "KL": ("early_stop.max_kl=3",),
    "gold": ("early_stop.metric=reward/gold_gain", "early_stop.patience=2", "ppo.keep_best=true"),
}
KEPT = 0.9
"""Part of the highest gold reward that a stopped run must have."""


def ended(outputs: Path, *overrides: str) -> tuple[Path, str, dict[str, Any]]:
    """Folder, reason and metrics of a run of the recipe, after its parents."""
    texts = [*SIZE, f"paths.outputs={outputs}", *overrides]
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        run = OmegaConf.to_object(compose("config", [*texts, *composing.companions(texts)]))
    assert isinstance(run, Run)
    result = chain.execute(run, pages=False)
    assert result.artifact is not None, result.message
    return Path(result.folder), result.reason, result.metrics


@pytest.mark.slow
def test_the_gold_reward_rises_and_falls_while_the_score_rises_and_early_stop_ends_near_the_top(tmp_path: Path) -> None:
    folder, _, _ = ended(tmp_path)
    rows = [row for row in map(json.loads, (folder / "metrics.jsonl").open()) if row["kind"] == "eval"]
    golds, scores = ([row[name] for row in rows] for name in ("reward/gold_mean", "reward/gain"))
    assert max(golds) > golds[0] + 1 and golds[-1] < golds[0] - 1
    assert all(later > earlier for earlier, later in zip(scores, scores[1:], strict=False))
    assert "over-optimised" in {finding.name for finding in examine(read(folder))}
    for stops in STOPS.values():
        _, reason, metrics = ended(tmp_path, *stops)
        assert reason == "early_stop"
        assert metrics["reward/gold_mean"] > KEPT * max(golds)
