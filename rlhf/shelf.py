"""What lies in the folders that runs start from, looked at once each."""

import hashlib
from pathlib import Path
from typing import Any

from rlhf.sealed import Broken, file_digest, open_sealed


class Shelf:
    """Reads each folder once in its life, and goes by that afterwards: for looking at many runs, or once at one.

    Who trains takes a new one for each look, since folders may have changed meanwhile.
    """

    def __init__(self) -> None:
        self._opened: dict[Path, dict[str, Any] | Broken] = {}
        self._digests: dict[Path, str] = {}

    def open(self, folder: Path) -> dict[str, Any]:
        """As ``open_sealed``, also in what it raises."""
        if folder not in self._opened:
            try:
                self._opened[folder] = open_sealed(folder)
            except Broken as error:
                self._opened[folder] = error
        found = self._opened[folder]
        if isinstance(found, Broken):
            raise found
        return found

    def digest(self, folder: Path) -> str:
        """Of the names and contents of all files in a folder that nobody sealed, as 16 hex digits."""
        if folder not in self._digests:
            whole = hashlib.sha256()
            for file in sorted(each for each in folder.rglob("*") if each.is_file()):
                whole.update(file.relative_to(folder).as_posix().encode())
                whole.update(bytes.fromhex(file_digest(file)))
            self._digests[folder] = whole.hexdigest()[:16]
        return self._digests[folder]
