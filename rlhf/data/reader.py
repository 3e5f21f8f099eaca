"""Rows of a file or a folder, each with the place it stands at."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.data.records import BadRow
from rlhf.fault import Fault

SUFFIXES = (".jsonl", ".jsonl.gz")

Row = dict[str, Any]


@dataclass(frozen=True)
class Located:
    """One row, or why it is none."""

    where: str
    """`file:line`, lines from 1; for the hub `hub:<id>:row`, rows from 0."""
    content: Row | BadRow


@dataclass(frozen=True)
class Table:
    """The rows of a source and the digest of its content."""

    rows: list[Located]
    digest: str
    """SHA-256 (hex) of the uncompressed bytes of all files, in the order of their names; of a hub set, of its fingerprint."""


def read(name: str, path: str, cap: int | None) -> Table:
    """The first ``cap`` rows (None: all) of what ``path`` names; blank lines are passed over.

    Raises:
        Fault: nothing readable is there. Names the key (of source ``name``), the value and the fix.
    """
    key = f"data.sources.{name}.path={path}"
    rows: list[Located] = []
    digest = hashlib.sha256()
    for file in _files(key, path):
        own = hashlib.sha256()
        try:
            for number, line in enumerate(_lines(file), start=1):
                own.update(line)
                if line.strip() and (cap is None or len(rows) < cap):
                    rows.append(Located(f"{file}:{number}", _parse(line)))
        except (OSError, EOFError, zlib.error) as error:
            raise Fault(f"{key}: {file} cannot be read ({error}); mend the file or name another") from error
        digest.update(own.digest())
    if not rows:
        raise Fault(f"{key}: holds no rows; name a file with one JSON object a line")
    return Table(rows, digest.hexdigest())


def _files(key: str, path: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted(file for file in place.iterdir() if file.name.endswith(SUFFIXES))
        if not found:
            raise Fault(f"{key}: the folder holds no {' or '.join(SUFFIXES)} file; put one there or name another folder")
        return found
    if not place.is_file():
        raise Fault(f"{key}: there is no such file or folder; correct the path, or write hub:<id> for a hub data set")
    if not place.name.endswith(SUFFIXES):
        raise Fault(f"{key}: only {' and '.join(SUFFIXES)} files are read; convert it to one JSON object a line")
    return [place]


def _lines(file: Path) -> Iterator[bytes]:
    with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as stream:
        yield from stream


def _parse(line: bytes) -> Row | BadRow:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BadRow("row", "is not UTF-8")
    except RecursionError:
        return BadRow("row", "is nested too deeply")
    except ValueError as error:
        return BadRow("row", f"is not JSON ({error})")
    return row if isinstance(row, dict) else BadRow("row", f"is a {type(row).__name__}, not an object with named columns")
