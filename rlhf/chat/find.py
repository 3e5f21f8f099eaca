"""From what a person writes to an artifact: a run's folder, an artifact's, or a run's name."""

import json
from pathlib import Path

from rlhf.fault import Fault
from rlhf.runs import folder_of
from rlhf.sealed import MANIFEST, is_sealed


def artifact_of(word: str, outputs: str | None = None) -> Path:
    """The folder of the artifact that ``word`` means; names of runs are looked for in ``outputs`` (None: the usual place).

    Raises:
        Fault: there is none.
    """
    for candidate in (Path(word), Path(word) / "artifact"):
        if is_sealed(candidate):
            return candidate
    folder = folder_of(word, outputs)
    if not is_sealed(folder / "artifact"):
        raise Fault(f"{word}: this run has no artifact; it did not finish, and the same command goes on with it")
    return folder / "artifact"


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
