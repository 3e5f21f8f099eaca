"""Folders that are either whole or not there: written beside, synced, closed by a manifest of digests, then renamed.

Only a folder whose manifest matches its files is ever loaded (artifacts and checkpoints alike), so a crash, a full disk
or a stray edit can cost work but never give wrong weights.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf.fault import Fault

MANIFEST = "manifest.json"


class Broken(RuntimeError):
    """A sealed folder is incomplete or was changed."""


def seal(folder: Path, fill: Callable[[Path], None], about: dict[str, Any]) -> None:
    """Make ``folder`` hold what ``fill`` writes, with ``about`` and the digests of all files in its manifest.

    A folder that stands there already is replaced in the last step only.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    fill(beside)
    files = sorted(file for file in beside.rglob("*") if file.is_file())
    digests = {str(file.relative_to(beside)): file_digest(file) for file in files}
    for file in files:
        _sync(file)
    manifest = beside / MANIFEST
    manifest.write_text(json.dumps({**about, "files": digests}, indent=2) + "\n")
    _sync(manifest)
    for inner in (*(each for each in beside.rglob("*") if each.is_dir()), beside):
        _sync(inner)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def open_sealed(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``, after every file has been checked against it.

    Raises:
        Broken: there is no manifest, a file is missing or was added, or a digest differs; the message names the file.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        digests = dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Broken(f"{folder}: no readable {MANIFEST}, so it was never finished") from error
    for file in folder.rglob("*"):
        if file.is_file() and str(file.relative_to(folder)) not in {MANIFEST, *digests}:
            raise Broken(f"{file}: not in the manifest; whoever loads the folder might read it")
    for name, digest in digests.items():
        file = folder / name
        if not file.is_file():
            raise Broken(f"{file}: missing, though the manifest names it")
        if file_digest(file) != digest:
            raise Broken(f"{file}: differs from its digest in the manifest")
    return manifest


def is_sealed(folder: Path) -> bool:
    """Whether ``folder`` has a manifest; its files are not checked."""
    return (folder / MANIFEST).is_file()


def make_folder(folder: Path, key: str) -> None:
    """Make a folder that can be written to.

    Raises:
        Fault: it cannot; the message names ``key``, the setting it comes from.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fault(f"{key}: {folder} cannot be made ({error.strerror}); name a folder you can write to") from error
    if not os.access(folder, os.W_OK):
        raise Fault(f"{key}: {folder} may not be written to; name a folder you can write to")


def write_atomically(path: Path, text: str) -> None:
    """Replace a small file in one step, so that a reader sees the old text or the new."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    _sync(beside)
    beside.replace(path)


def file_digest(file: Path) -> str:
    """Of what is in ``file``: SHA-256, as hex digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
