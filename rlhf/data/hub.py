"""Rows of a data set of the hub, each with the place it stands at."""

import hashlib
import itertools
import json
from collections.abc import Iterable
from typing import Any

from rlhf.config import SourceConfig
from rlhf.data.reader import Located, Table
from rlhf.fault import Fault

BUILDERS = {"json": "json", "jsonl": "json", "csv": "csv", "parquet": "parquet"}
"""How `datasets` calls what reads a kind of file, by its ending (before a `.gz`)."""


def read_hub(name: str, config: SourceConfig, cache: str | None) -> Table:
    """The first ``config.cap`` rows (None: all) of what ``config`` names on the hub.

    Needs a connection, or an earlier download. Named ``files`` are read as they are, which also reaches past the script
    that some data sets still carry.

    Raises:
        Fault: nothing readable is there. Names the key (of source ``name``), the value and the fix.
    """
    identifier, _, revision = config.path.removeprefix("hub:").partition("@")
    key = f"data.sources.{name}.path={config.path}"
    try:
        from datasets import load_dataset  # takes seconds to import, and local files do not need it
    except ImportError as error:
        raise Fault(f"{key}: needs the package `datasets`; install it, or name a local file") from error
    what, options = _request(name, config, identifier, revision or None)
    part = config.files or f"the {config.split} split"
    try:
        dataset = load_dataset(what, cache_dir=cache, streaming=config.streaming, **options)
        rows = [dict(row) for row in itertools.islice(dataset, config.cap)]
    except Exception as error:  # the hub client raises dozens of types; for the user they all mean that the data is not there
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = "check the id and the connection, load it once while online (paths.cache keeps it), or name a local .jsonl file"
        if "scripts are no longer supported" in reason:
            converted = f"data.sources.{name}.path=hub:{identifier}@refs/convert/parquet"
            fix = f"read the rows that the hub converted: {converted}, or name data.sources.{name}.files"
        raise Fault(f"{key}: {part} of `{identifier}` cannot be loaded ({reason}); {fix}") from error
    if not rows:
        raise Fault(f"{key}: {part} holds no rows; name another data set")
    content = [what, options, _digest(rows) if config.streaming else dataset._fingerprint]
    return Table(
        [Located(f"hub:{identifier}:{index}", row) for index, row in enumerate(rows)],
        hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    )


def _request(name: str, config: SourceConfig, identifier: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """What `datasets.load_dataset` is asked for."""
    if config.files is None:
        return identifier, {"name": config.subset, "revision": revision, "split": config.split}
    ending = config.files.removesuffix(".gz").rpartition(".")[2]
    if ending not in BUILDERS:
        raise Fault(f"data.sources.{name}.files={config.files}: must end in one of .{', .'.join(BUILDERS)}, perhaps with .gz")
    place = f"hf://datasets/{identifier}{f'@{revision}' if revision else ''}/{config.files}"
    return BUILDERS[ending], {"data_files": place, "split": "train"}


def _digest(rows: Iterable[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    return digest.hexdigest()
