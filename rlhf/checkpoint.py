"""All that is needed to go on with a run: weights and moments as safetensors, and where it was as JSON."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from rlhf.sealed import Broken, is_sealed, open_sealed, seal
from rlhf.tracking.screen import warn


@dataclass(frozen=True)
class TrainState:
    """Where a run stands between two rounds. Everything random is a function of (seed, round), so no generator is kept."""

    round: int
    """Rounds done."""
    optimizer_steps: int
    seconds: float
    """Time spent on the run so far, over all its sessions."""
    tokens: float
    """Tokens trained on so far."""
    metrics_rows: int
    """Rows of ``metrics.jsonl`` that belong to the rounds done."""
    samples_rows: int
    """Rows of ``samples.jsonl`` that belong to the rounds done."""
    best: float | None = None
    """The best evaluation so far, by the metric that is followed."""
    best_round: int = 0
    """Rounds done at the best evaluation."""
    waited: int = 0
    """Evaluations since then."""
    train_seconds: float = 0.0
    """Of ``seconds`` those in which the tokens were trained on, without evaluations."""
    kept_rows: int = 0
    """Rows of ``kept.jsonl`` that belong to the rounds done."""


def save(folder: Path, state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Write ``folder/<round>``; only then remove older checkpoints."""

    def fill(target: Path) -> None:
        (target / "state.json").write_text(json.dumps(asdict(state), indent=2) + "\n")
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, target / "tensors.safetensors"
        )

    name = f"{state.round:08d}"
    seal(folder / name, fill, {"kind": "checkpoint"})
    for older in _sealed_folders(folder):
        if older.name != name:
            shutil.rmtree(older)


def load_latest(folder: Path) -> tuple[TrainState, dict[str, Tensor]] | None:
    """The newest checkpoint in ``folder`` that is whole, or None. Broken ones are passed over and named on the screen."""
    for candidate in reversed(_sealed_folders(folder)):
        try:
            open_sealed(candidate)
        except Broken as error:
            warn(f"checkpoint passed over: {error}")
            continue
        state = TrainState(**json.loads((candidate / "state.json").read_text()))
        return state, load_file(candidate / "tensors.safetensors")
    return None


def _sealed_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if not each.name.startswith(".") and is_sealed(each))
