"""From what a person writes for a run to its folder: the folder itself, its name in `outputs/runs`, or how that begins."""

from pathlib import Path

from omegaconf import OmegaConf

from rlhf.config import CONF
from rlhf.fault import Fault

CONFIG = "config.yaml"


def usual() -> Path:
    """Where runs are when nobody says otherwise."""
    return Path(OmegaConf.load(CONF / "config.yaml").paths.outputs) / "runs"


def folder_of(word: str) -> Path:
    """The folder of the run that ``word`` means.

    Raises:
        Fault: there is none, or several names begin so.
    """
    for folder in (Path(word), usual() / word):
        if (folder / CONFIG).is_file():
            return folder
    near = sorted(path.parent for path in usual().glob(f"{word}*/{CONFIG}")) if "/" not in word and word.strip(".") else []
    if len(near) == 1:
        return near[0]
    hint = f"did you mean {', '.join(path.name for path in near)}?" if near else f"runs are in {usual()}"
    raise Fault(f"{word}: is not the folder of a run (it has no {CONFIG}); {hint}")
