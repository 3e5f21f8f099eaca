"""One source of `data.sources`, read: its examples, and what is to be said about its rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rlhf.config import Format, SourceConfig
from rlhf.data import dialogues, formats, upstream
from rlhf.data.columns import Watched, has, is_kept, renamed
from rlhf.data.fields import margin_of, system_of
from rlhf.data.formats import ANSWER_COLUMNS, COLUMNS, detect, is_transcript
from rlhf.data.generated import OF_WORLD
from rlhf.data.hub import read_hub
from rlhf.data.reader import Located, Row, read
from rlhf.data.records import BadDialogue, BadRow, Example, Turn
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
    """What was left out: columns, draws, identical answers, bad rows with their places."""


def load_source(name: str, config: SourceConfig, max_bad_fraction: float, cache: str | None) -> Source:
    """Read a source.

    Raises:
        Fault: nothing is there, its format is not known, or too many of its rows are bad.
    """
    table = read_hub(name, config, cache) if config.path.startswith("hub:") else read(name, config.path, config.cap)
    rows = [Located(row.where, renamed(row.content, config.columns)) for row in table.rows if is_kept(row.content, config.keep)]
    if not rows:
        raise Fault(f"data.sources.{name}.keep={config.keep}: no row of {config.path} has these values; correct them")
    _refuse_unknown_columns(name, config, table.rows)
    kind, why = _format(name, config, rows)
    examples: list[Example] = []
    bad: list[str] = []
    unusable: list[str] = []
    draws = identical = 0
    read_columns = {place.partition(".")[0] for place in [*config.columns.values(), *config.keep]}
    for row in rows:
        try:
            found = _examples(row, kind, name, read_columns)
        except BadRow as fault:
            passed_over = isinstance(fault, BadDialogue) and config.path.startswith("hub:")  # nobody here can mend those
            field = config.columns.get(fault.field, fault.field)
            (unusable if passed_over else bad).append(f"{row.where}: {field}: {fault.reason}")
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
    unread = dict.fromkeys(column for row in rows if isinstance(row.content, dict) for column in row.content)
    unread_columns = ", ".join(column for column in unread if column not in read_columns)
    skipped = [f"not read: {unread_columns}"] if unread_columns else []
    skipped += [
        f"{count} {what}"
        for count, what in (
            (len(table.rows) - total, f"left out by data.sources.{name}.keep"),
            (draws, "skipped: a draw, or nothing to learn from"),
            (identical, "pairs skipped: both answers are the same, and their gradient zero"),
            (len(unusable), f"dialogues passed over: {_first(unusable)}"),
            (len(bad), f"skipped as unreadable: {_first(bad)}"),
        )
        if count
    ]
    return Source(name, examples, table.digest, f"{total} rows of {config.path} read as {kind.name} ({why})", skipped)


def _format(name: str, config: SourceConfig, rows: Iterable[Located]) -> tuple[Format, str]:
    """The format and why it was chosen."""
    if config.format in OF_WORLD:
        raise Fault(f"data.sources.{name}.format={config.format.name}: goes with path=world only; use format=auto")
    if config.format is not Format.auto:
        return config.format, "as configured"
    first = next((row.content for row in rows if not isinstance(row.content, BadRow)), None)
    if first is None:
        where = next(f"{row.where}: {row.content}" for row in rows)
        raise Fault(f"data.sources.{name}.path={config.path}: no row can be read; {where}; write one JSON object a line")
    kind = detect(first)
    if kind is None:
        example = ", ".join(f"{ours}: {theirs}" for ours, theirs in zip(("prompt", "completion"), first, strict=False))
        choices = ", ".join(f"{known.name} ({', '.join(sorted(needed))})" for known, needed in COLUMNS.items())
        raise Fault(
            f"data.sources.{name}.format=auto: no format has the columns {', '.join(map(str, first)) or '(none)'}; "
            f"say what they are called, as in '+data.sources.{name}.columns={{{example}}}', or set the format: {choices}"
        )
    if kind is Format.transcripts:
        _refuse_an_uncertain_prompt(name, first)
    used = COLUMNS[kind] | ({*ANSWER_COLUMNS} if kind is Format.completion else set())
    return kind, f"columns {', '.join(column for column in first if column in used)}"


def _refuse_unknown_columns(name: str, config: SourceConfig, rows: Sequence[Located]) -> None:
    for ours, theirs in config.columns.items():
        if not any(has(row.content, theirs) for row in rows):
            known = dict.fromkeys(column for row in rows if isinstance(row.content, dict) for column in row.content)
            raise Fault(
                f"data.sources.{name}.columns.{ours}={theirs}: no row of {config.path} has this column; "
                f"choose from {', '.join(map(str, known)) or '(none)'}"
            )


def _refuse_an_uncertain_prompt(name: str, row: Row) -> None:
    """Two answers with a common beginning are their own prompt only where no other column can be it."""
    if isinstance(row.get("chosen"), list) or any(is_transcript(str(row.get(side))) for side in ("chosen", "rejected")):
        return
    known = ("chosen", "rejected", "system", "margin")
    others = [column for column, value in row.items() if column not in known and isinstance(value, str) and value.strip()]
    if others:
        raise Fault(
            f"data.sources.{name}: chosen and rejected have no prompt beside them, and {', '.join(others)} is not read; write "
            f"'+data.sources.{name}.columns={{prompt: {others[0]}}}', or data.sources.{name}.format=transcripts if the "
            "prompt is how both answers begin"
        )


def _examples(row: Located, kind: Format, name: str, read_columns: set[str]) -> list[Example]:
    """The examples in a row; the names of the columns that they come from are added to ``read_columns``."""
    if isinstance(row.content, BadRow):
        raise row.content
    content = Watched(row.content, read_columns)
    return with_common_columns(content, READERS[kind](content, name))


def with_common_columns(row: Row, examples: Sequence[Example]) -> list[Example]:
    """``examples`` with what any format may say beside its own columns: a `system` turn to come first, a pair's `margin`."""
    found = list(examples)
    if any(each.turns for each in found) and (system := system_of(row)):
        if any(turn.role == "system" for each in found for turn in each.turns):
            raise BadRow("system", "stands beside a dialogue that has a system turn of its own; keep one of them")
        found = [replace(each, turns=(Turn("system", system), *each.turns)) for each in found]
    pairs = [each for each in found if each.rejected is not None and not each.ranking]
    margin = margin_of(row) if pairs else None
    return found if margin is None else [replace(each, margin=margin) if each in pairs else each for each in found]


def _first(bad: list[str]) -> str:
    more = f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return "; ".join(bad[:SHOWN]) + more
