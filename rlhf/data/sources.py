"""One source of `data.sources`, read: its examples, and what is to be said about its rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rlhf.config import Format, SourceConfig
from rlhf.data import dialogues, formats, upstream
from rlhf.data.columns import is_kept, renamed
from rlhf.data.formats import ANSWER_COLUMNS, COLUMNS, detect
from rlhf.data.hub import read_hub
from rlhf.data.reader import Located, Row, read
from rlhf.data.records import BadRow, Example
from rlhf.fault import Fault

READERS = formats.READERS | dialogues.READERS | upstream.READERS

SHOWN = 3
"""Bad rows that are shown; the others are counted."""


@dataclass(frozen=True)
class Source:
    """The examples of a source."""

    name: str
    examples: list[Example]
    digest: str
    """Of the content, wherever it lies."""
    reading: str
    """How many rows were read, as what, and why."""
    skipped: list[str]
    """What was left out: draws, identical answers, bad rows with their places."""


def load_source(name: str, config: SourceConfig, max_bad_fraction: float, cache: str | None) -> Source:
    """Read a source.

    Raises:
        Fault: nothing is there, its format is not known, or too many of its rows are bad.
    """
    table = read_hub(name, config, cache) if config.path.startswith("hub:") else read(name, config.path, config.cap)
    rows = [Located(row.where, renamed(row.content, config.columns)) for row in table.rows if is_kept(row.content, config.keep)]
    if not rows:
        raise Fault(f"data.sources.{name}.keep={config.keep}: no row of {config.path} has these values; correct them")
    kind, why = _format(name, config, rows)
    examples, bad, draws, identical = [], [], 0, 0
    for row in rows:
        try:
            found = _examples(row, READERS[kind], name)
        except BadRow as fault:
            bad.append(f"{row.where}: {config.columns.get(fault.field, fault.field)}: {fault.reason}")
            continue
        draws += not found
        kept = [example for example in found if example.response is None or example.response != example.rejected]
        identical += len(found) - len(kept)
        examples += kept
    total = len(rows)
    if len(bad) > max_bad_fraction * total:
        raise Fault(
            f"data.sources.{name}: {len(bad)} of {total} rows cannot be read as {kind.name}, "
            f"above data.max_bad_fraction={max_bad_fraction}: {_first(bad)}; mend them, set data.sources.{name}.format, "
            "or raise data.max_bad_fraction"
        )
    skipped = [
        f"{count} {what}"
        for count, what in (
            (len(table.rows) - total, f"left out by data.sources.{name}.keep"),
            (draws, "skipped: a draw, or nothing to learn from"),
            (identical, "pairs skipped: both answers are the same, and their gradient zero"),
            (len(bad), f"skipped as unreadable: {_first(bad)}"),
        )
        if count
    ]
    return Source(name, examples, table.digest, f"{total} rows of {config.path} read as {kind.name} ({why})", skipped)


def _format(name: str, config: SourceConfig, rows: Iterable[Located]) -> tuple[Format, str]:
    """The format and why it was chosen."""
    if config.format is Format.world:
        raise Fault(f"data.sources.{name}.format=world: goes with path=world only; use format=auto")
    if config.format is not Format.auto:
        return config.format, "as configured"
    first = next((row.content for row in rows if not isinstance(row.content, BadRow)), None)
    if first is None:
        where = next(f"{row.where}: {row.content}" for row in rows)
        raise Fault(f"data.sources.{name}.path={config.path}: no row can be read; {where}; write one JSON object a line")
    kind = detect(first)
    if kind is None:
        choices = ", ".join(f"{known.name} ({', '.join(sorted(needed))})" for known, needed in COLUMNS.items())
        raise Fault(
            f"data.sources.{name}.format=auto: no format has the columns {', '.join(map(str, first)) or '(none)'}; "
            f"rename them, or set the format: {choices}"
        )
    used = COLUMNS[kind] | ({*ANSWER_COLUMNS} if kind is Format.completion else set())
    return kind, f"columns {', '.join(column for column in first if column in used)}"


def _examples(row: Located, reader: Callable[[Row, str], list[Example]], name: str) -> list[Example]:
    if isinstance(row.content, BadRow):
        raise row.content
    return reader(row.content, name)


def _first(bad: list[str]) -> str:
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return "; ".join(bad[:SHOWN]) + more
