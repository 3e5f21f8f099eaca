"""Where capsules are, without torch."""

from pathlib import Path

from rlhf.fault import Fault
from rlhf.runs import folder_of
from rlhf.sealed import Broken, open_sealed

CAPSULE = "capsule"
"""Folder of a run that holds its capsule."""
ABOUT = "capsule.json"


def find(word: str) -> Path:
    """The capsule that ``word`` means: its folder, or its run's folder or name; every file of it is checked.

    Raises:
        Fault: there is none, or it is not whole.
    """
    place = Path(word)
    if not (place / ABOUT).is_file():
        if place.name == CAPSULE and place.is_dir():
            raise Fault(f"{word}: has no {ABOUT}, so it is no capsule that was finished; run it again with fresh=true")
        run = folder_of(word)
        place = run / CAPSULE
        if not place.is_dir():
            raise Fault(
                f"{word}: this run kept no capsule; ppo.capture_step=K (rloo., grpo.) on its command keeps one of update K"
            )
    try:
        open_sealed(place)
    except Broken as error:
        raise Fault(f"{word}: {error}; a capsule is read only as it was written, so run it again with fresh=true") from error
    return place
