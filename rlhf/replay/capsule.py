"""A capsule: a sealed folder from which one update can be computed again, with no data, reward or parent at hand.

config.yaml           of the run
capsule.json          `About`
rollout.safetensors   prompts and responses, raw scores, those that give their scale, and what was made of them
before.safetensors    trained weights, moments and the stage's own state, as in a checkpoint
<parent>/, critic/    networks that trained weights are put into: the policy as it started, the critic; with tokenizer
manifest.json         digests of all files
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.replay.places import ABOUT
from rlhf.rollout.sample import Response
from rlhf.sealed import seal
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.captured import Captured

BEFORE, ROLLOUT = "before.safetensors", "rollout.safetensors"
_TEXTS = "texts/"
"""Begins the names of tensors of the language-modelling loss."""
_SAMPLER = "sampler/"
"""Begins the names of what the sampler says of each response token; [B, R]."""
_RAW, _START = "raw_scores", "start_scores"


@dataclass(frozen=True)
class About:
    """What is known of an update beside its tensors."""

    stage: str
    update: int
    """The first is 1."""
    steps: int
    """Optimizer steps before it."""
    critic_speaks_scores: bool
    metrics: dict[str, float]
    """What the update measured, and by how much it moved the weights."""
    weights: dict[str, str]
    """Digest of each network's trained weights after it."""
    device: str
    """`cpu` or `cuda`."""
    machine: str
    """The device's name."""
    threads: int
    versions: dict[str, str]


def save(folder: Path, run_config: str, about: About, captured: Captured, before: Path, write: Callable[[Path], None]) -> None:
    """Write a capsule, whole or not at all.

    Args:
        run_config: the content of ``config.yaml``.
        before: file of tensors, which moves into the capsule.
        write: puts the networks and tokenizers into a folder.
    """

    def fill(target: Path) -> None:
        (target / "config.yaml").write_text(run_config)
        (target / ABOUT).write_text(json.dumps(asdict(about), indent=2) + "\n")
        tensors = captured.rollout | {_RAW: captured.raw} | _of_texts(captured.texts) | _of_sampler(captured.sampled)
        if captured.start_scores is not None:
            tensors[_START] = captured.start_scores
        save_file({name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}, target / ROLLOUT)
        before.rename(target / BEFORE)
        write(target)

    seal(folder, fill, {"kind": "capsule"})


def read_about(folder: Path) -> About:
    """What is known of the update.

    Raises:
        Fault: other code wrote it, which knew something else.
    """
    known = json.loads((folder / ABOUT).read_text())
    if known.keys() != {each.name for each in fields(About)}:
        raise Fault(f"{folder}: was written by other code; check out the commit of its run, or run it again with fresh=true")
    return About(**known)


def read_captured(folder: Path, about: About) -> Captured:
    """What the update takes from outside of its networks."""
    tensors = load_file(folder / ROLLOUT)
    texts = _rows(*(tensors[f"{_TEXTS}{name}"] for name in ("ids", "mask", "targets"))) if f"{_TEXTS}ids" in tensors else []
    rows = _rows(tensors["ids"], tensors["mask"], tensors["targets"])
    return Captured(
        rows=rows,
        raw=tensors.pop(_RAW),
        start_scores=tensors.pop(_START, None),
        sampled=_sampled(rows, tensors),
        rollout={name: each for name, each in tensors.items() if not name.startswith((_TEXTS, _SAMPLER))},
        texts=texts,
        critic_speaks_scores=about.critic_speaks_scores,
    )


def parents(folder: Path, run: Run, stage: str) -> dict[str, Path]:
    """Where the networks are."""
    init: str = getattr(run, stage).init.name
    return {name: folder / name for name in (init, "critic")}


def _of_texts(texts: Sequence[Tokens]) -> dict[str, Tensor]:
    if not texts:
        return {}
    padded = Sequences.of(texts, 0, torch.device("cpu"))
    return {f"{_TEXTS}{name}": getattr(padded, name) for name in ("ids", "mask", "targets")}


def _of_sampler(sampled: Sequence[Response]) -> dict[str, Tensor]:
    columns = {"logprobs": [each.logprobs for each in sampled], "cut": [each.cut for each in sampled]}
    return {
        f"{_SAMPLER}{name}": pad_sequence([torch.tensor(row, dtype=torch.float64) for row in rows], batch_first=True)
        for name, rows in columns.items()
        if rows
    }


def _sampled(rows: Sequence[Tokens], tensors: dict[str, Tensor]) -> list[Response]:
    if f"{_SAMPLER}cut" not in tensors:
        return []
    said = zip(rows, *(tensors[f"{_SAMPLER}{name}"].tolist() for name in ("logprobs", "cut")), strict=True)
    return [Response(ids, logprobs[: len(ids)], cut[: len(ids)]) for (_, ids), logprobs, cut in said]


def _rows(ids: Tensor, mask: Tensor, targets: Tensor) -> list[Tokens]:
    """Prompts and responses without padding."""
    return [(row[real & ~learnt].tolist(), row[learnt].tolist()) for row, real, learnt in zip(ids, mask, targets, strict=True)]
