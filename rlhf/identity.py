"""What a run is called."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Identity:
    """What a run is called, and by which names its result and its parents' are found."""

    stage: str
    result_signature: str
    run_signature: str
    parents: dict[str, str]
    folder: Path
    data_digest: str
    """Of the data the run reads, as 64 hex digits."""

    @property
    def name(self) -> str:
        """The folder's name: stage, model and run signature."""
        return self.folder.name
