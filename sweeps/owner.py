"""Whose a study in a shared database is: an id lies in its folder and with it there, so that two studies of one name stay two.

The id is in the folder, not its path, so that a folder that was moved goes on.
"""

import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf.fault import Fault
from rlhf.sealed import write_atomically

NAME = "study.id"
Note = dict[str, Any]


def check(folder: Path, noted: Note | None, where: str) -> None:
    """See that the study that is ``noted`` in the database of ``where`` is that of ``folder``, if it is anybody's.

    Raises:
        Fault: it is another one's.
    """
    if noted is None or noted["id"] == (known := _known(folder)):
        return
    if known is not None or (noted["folder"], noted["host"]) != _place(folder):  # else it was deleted, and begins anew here
        raise Fault(
            f"{where}: has a study {folder.name} already, that of {noted['folder']} on {noted['host']}, and this is {folder}; "
            f"choose another sweep.name, or move that folder to {folder} to go on with it"
        )


def claim(folder: Path, noted: Note | None, note: Callable[[Note], None], where: str) -> None:
    """Note in the database that its study is that of ``folder``.

    Raises:
        Fault: it is another one's.
    """
    check(folder, noted, where)
    if _known(folder) is None:
        write_atomically(folder / NAME, uuid.uuid4().hex + "\n")
    path, host = _place(folder)
    note({"id": _known(folder), "folder": path, "host": host})


def _place(folder: Path) -> tuple[str, str]:
    return str(folder.absolute()), socket.gethostname()


def _known(folder: Path) -> str | None:
    path = folder / NAME
    return path.read_text().strip() if path.is_file() else None
