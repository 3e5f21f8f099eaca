"""The glossary and the table of metrics, read from their pages, so that page and verb cannot differ."""

import re
from dataclasses import dataclass

from rlhf.config import CONF

DOCS = CONF.parent / "docs"
"""Where the pages are: beside ``conf`` in a checkout and in an installed wheel."""

_QUOTED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Entry:
    """A term of the glossary under all its names, with the keys and metrics it points to."""

    names: tuple[str, ...]
    text: str
    keys: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricRow:
    """A row of ``docs/metrics.md``: the names it is about, and its cells."""

    names: tuple[str, ...]
    unit: str
    meaning: str
    healthy: str
    outside: str

    def about(self, word: str) -> bool:
        """Whether ``word`` is one of the names; in a name, `…` and `<source>` stand for anything."""
        return any(
            re.fullmatch(re.sub(r"…|<\w+>", "\0", name).replace("\0", ".+"), word) or name == word for name in self.names
        )


def glossary(page: str | None = None) -> list[Entry]:
    """The entries of ``docs/glossary.md`` (or of ``page``): a heading holds a term and its other names, by commas."""
    page = (DOCS / "glossary.md").read_text() if page is None else page
    return [_entry(*section.split("\n", 1)) for section in page.split("\n## ")[1:]]


def metrics(page: str | None = None) -> list[MetricRow]:
    """The rows of the table in ``docs/metrics.md`` (or in ``page``)."""
    page = (DOCS / "metrics.md").read_text() if page is None else page
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in page.splitlines() if line.startswith("|")][2:]
    return [MetricRow(tuple(_names(name)), *(cell.strip() for cell in rest)) for name, *rest in rows]


def plain(word: str) -> str:
    """A term as it is compared: small letters, and words parted by one space however they are written."""
    return " ".join(re.split(r"[\s_-]+", word.lower().strip()))


def _entry(heading: str, body: str) -> Entry:
    listed: dict[str, tuple[str, ...]] = {"Keys": (), "Metrics": ()}
    told = []
    for paragraph in body.strip().split("\n\n"):
        kind, _, rest = paragraph.partition(": ")
        if kind in listed:
            listed[kind] = tuple(_QUOTED.findall(rest))
        else:
            told.append(" ".join(paragraph.split()))
    names = tuple(name.strip() for name in heading.split(","))
    return Entry(names, "\n".join(told), listed["Keys"], listed["Metrics"])


def _names(cell: str) -> list[str]:
    """The names in a first cell; one that begins with `_` is an ending of the name before it."""
    found: list[str] = []
    stem = ""
    for name in _QUOTED.findall(cell):
        if name.startswith("_"):
            found.append(stem + name)
        else:
            found.append(stem := name)
    return found
