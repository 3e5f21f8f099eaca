"""What an artifact is called, and the reward model that belongs to it."""

import json
from pathlib import Path

from rlhf.sealed import MANIFEST


def about(artifact: Path) -> dict[str, object]:
    """The manifest: kind, stage, parents, result signature."""
    content: dict[str, object] = json.loads((artifact / MANIFEST).read_text())
    return content


def name_of(artifact: Path) -> str:
    """The run's name, or the folder's own."""
    resolved = artifact.resolve()
    return resolved.parent.name if resolved.name == "artifact" else resolved.name


def reward_model_of(artifact: Path) -> Path | None:
    """The reward model that this policy was trained against, if it lies among the runs beside it."""
    parents = about(artifact).get("parents")
    signature = parents.get("rm") if isinstance(parents, dict) else None
    for manifest in sorted(artifact.resolve().parent.parent.glob(f"*/artifact/{MANIFEST}")):
        if signature is not None and about(manifest.parent).get("result_signature") == signature:
            return manifest.parent
    return None
