"""What a stage starts from here: models that the user has brought or, untrained, what their own stages would start from."""

from dataclasses import replace
from pathlib import Path

from rlhf import artifact, chain, lineage
from rlhf.config import Run
from rlhf.engine.torch_engine import TorchEngine
from rlhf.invariants.updates import build
from rlhf.stages.table import TABLE

UNTRAINED = "start weights"


def starts(run: Run, folder: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The parents of ``run``, where they are and, for a person, what they are; made in ``folder`` where none was brought.

    Raises:
        Fault: a parent that was brought cannot be used, or its stage has no data to make a tokenizer of.
    """
    paths, told = {}, {}
    for name in lineage.parents(run, run.stage):
        brought = chain.own_parent(run, name)
        told[name] = UNTRAINED if brought is None else str(brought.path)
        made = replace(lineage.as_parent(run, name), stage=lineage.stage_of(name))
        paths[name] = _untrained(made, name, folder) if brought is None else brought.path
    return paths, told


def _untrained(run: Run, name: str, folder: Path) -> Path:
    """The artifact of a stage of which nothing has been trained."""
    target = folder / name
    if not target.exists():
        paths, _ = starts(run, folder)
        engine = TorchEngine(run.device, run.precision, run.deterministic)
        model, tokenizer = build(run, engine, paths).export()
        about = {"kind": TABLE[run.stage].makes, "stage": run.stage, "model": run.model.name, "seed": run.seed}
        about |= {"data": run.data.name, "result_signature": "untrained"}
        artifact.save(target, model, engine.weights(model), tokenizer, about)
    return target
