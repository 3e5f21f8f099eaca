"""Rows of local files, each with the place it stands at.

The files are read here and not by `datasets`, for three reasons: a fault can name the line, one bad line costs one row and
not the file, and text stays text (a CSV answer `007` or `NA` is no number and not missing). Hub data sets go through
`datasets` (``hub``).
"""

import csv
import glob
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.data.records import BadRow
from rlhf.fault import Fault

Row = dict[str, Any]


@dataclass(frozen=True)
class Located:
    """One row, or why it is none."""

    where: str
    """`file:line`, lines from 1 (of a row over several lines the first); `file:row n`, rows from 1, of a .json list and of
    .parquet; for the hub `hub:<id>:row`, rows from 0."""
    content: Row | BadRow


@dataclass(frozen=True)
class Table:
    """The rows of a source and the digest of its content."""

    rows: list[Located]
    digest: str
    """SHA-256 (hex) of the uncompressed bytes of all files, in the order of their names; of a hub set, of its fingerprint."""


def read(name: str, path: str, cap: int | None) -> Table:
    """The first ``cap`` rows (None: all) of what ``path`` names: a file, a folder of files, or a pattern like `part-*.csv`.

    Raises:
        Fault: nothing readable is there. Names the key (of source ``name``), the value and the fix.
    """
    key = f"data.sources.{name}.path={path}"
    rows: list[Located] = []
    digest = hashlib.sha256()
    for file in _files(key, path):
        try:
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            digest.update(hashlib.sha256(content).digest())
            for place, row in READERS[_ending(file)](content):
                if cap is not None and len(rows) == cap:
                    break
                rows.append(Located(f"{file}:{place}", row))
        except (OSError, EOFError, zlib.error, _Unreadable) as error:
            raise Fault(f"{key}: {file} cannot be read ({error}); mend the file or name another") from error
    if not rows:
        raise Fault(f"{key}: holds no rows; name a file with some, such as one JSON object a line")
    return Table(rows, digest.hexdigest())


class _Unreadable(Exception):
    """A file that holds no rows at all, not even bad ones."""


Rows = Iterator[tuple[str, Row | BadRow]]
"""Rows with their place inside the file."""


def _json_lines(content: bytes) -> Rows:
    """One object a line; blank lines are passed over."""
    for number, line in enumerate(io.BytesIO(content), start=1):
        if line.strip():
            yield str(number), _parse(line)


def _json(content: bytes) -> Rows:
    """A list of objects, alone or as the only list inside of an object; or lines after all, which many call .json too."""
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        yield from _json_lines(content)
        return
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        found = lists[0] if len(lists) == 1 else [found]
    if not isinstance(found, list):
        raise _Unreadable("it is neither a list of objects nor one object a line")
    for number, row in enumerate(found, start=1):
        yield f"row {number}", row if isinstance(row, dict) else _no_object(row)


def _separated(content: bytes, delimiter: str) -> Rows:
    """A header with the names of the columns, then a row a line, or over several lines in quotes; every value is text."""
    text = _decoded(content)
    csv.field_size_limit(2**31 - 1)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns, number = next(lines, []), 1
    others = [mark for mark in (";", "\t", ",") if mark != delimiter and mark in "".join(columns)]
    if len(columns) == 1 and others:
        raise _Unreadable(f"its header holds {others[0]!r} and no {delimiter!r}: write {delimiter!r} between the columns")
    while True:
        number = lines.line_num + 1
        try:
            values = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield str(number), BadRow("row", f"is not separated by {delimiter!r} ({error})")
            return  # where a quote is open, no later row can be told
        if not values:
            continue
        if len(values) != len(columns):
            yield str(number), BadRow("row", f"has {len(values)} values, not {len(columns)} as the header")
        else:
            yield str(number), dict(zip(columns, values, strict=True))


def _documents(content: bytes) -> Rows:
    """Plain text: blocks with a blank line between them are documents, under `text`."""
    block: list[str] = []
    first = 1
    for number, line in enumerate(io.StringIO(_decoded(content)), start=1):
        if line.strip():
            first = first if block else number
            block.append(line)
        elif block:
            yield str(first), {"text": "".join(block)}
            block = []
    if block:
        yield str(first), {"text": "".join(block)}


def _parquet(content: bytes) -> Rows:
    import pyarrow.parquet  # half a second, for one format of many

    try:
        with pyarrow.parquet.ParquetFile(io.BytesIO(content)) as table:
            rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
            yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    except pyarrow.ArrowException as error:
        raise _Unreadable(str(error).splitlines()[0]) from error


READERS: dict[str, Callable[[bytes], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": lambda content: _separated(content, ","),
    ".tsv": lambda content: _separated(content, "\t"),
    ".parquet": _parquet,
    ".txt": _documents,
}
"""What reads a file, by its ending (before a `.gz`)."""

KINDS = f"{', '.join(READERS)} (each also with .gz)"


def _files(key: str, path: str) -> list[Path]:
    place = Path(path).expanduser()
    if place.is_dir():
        found = sorted(file for file in place.iterdir() if file.is_file() and _ending(file) in READERS)
        if not found:
            deeper = sorted(folder.name for folder in place.iterdir() if folder.is_dir())
            fix = f"its folders are not looked into: name {place / deeper[0]}" if deeper else "put one there"
            raise Fault(f"{key}: the folder holds no file of {KINDS}; {fix}, or name another folder")
        return [file for file in found if _ending(file) != ".txt"] or found  # a note beside the data is no data
    if not place.is_file():
        if found := sorted(map(Path, glob.glob(str(place)))):
            return [file for name in found for file in _files(key, str(name))]
        raise Fault(f"{key}: there is no such file or folder; correct the path, or write hub:<id> for a hub data set")
    if _ending(place) not in READERS:
        raise Fault(f"{key}: only {KINDS} are read; convert it, best to one JSON object a line (.jsonl)")
    return [place]


def _ending(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _Unreadable(f"line {line} is not UTF-8") from error


def _parse(line: bytes) -> Row | BadRow:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BadRow("row", "is not UTF-8")
    except RecursionError:
        return BadRow("row", "is nested too deeply")
    except ValueError as error:
        return BadRow("row", f"is not JSON ({error})")
    return row if isinstance(row, dict) else _no_object(row)


def _no_object(row: Any) -> BadRow:
    return BadRow("row", f"is a {type(row).__name__}, not an object with named columns")
