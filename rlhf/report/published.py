"""Curves that the authors of a recipe have published, to be drawn beside those of a run of it.

``published.json`` holds them by recipe, stage and metric, over the sequences, pairs or prompts seen, so that a run with
another batch size can be laid over them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from rlhf.report.folder import RunFolder
from rlhf.report.paper import Point

FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """What there is to lay a run over; empty for most runs."""

    source: str = ""
    remark: str = ""
    """How far the figures can be compared."""
    curves: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    """(round of the run, value) by metric."""


def of(run: RunFolder) -> Published:
    """The curves of the recipe that ``run`` was started with (``experiment=...``), for its stage and at its batch size."""
    recipes = [text.partition("=")[2] for text in run.overrides if text.startswith("experiment=")]
    found = json.loads(FILE.read_text(encoding="utf-8")).get(recipes[-1]) if recipes else None
    if found is None or run.stage not in found["stages"]:
        return Published()
    stage = found["stages"][run.stage]
    batch = OmegaConf.select(OmegaConf.load(run.path / "config.yaml"), f"{run.stage}.batch_size")
    curves = {name: [(seen / batch, value) for seen, value in points] for name, points in stage["curves"].items()}
    return Published(found["source"], stage["remark"], curves)
