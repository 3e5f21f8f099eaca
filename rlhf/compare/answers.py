"""The same held-out prompts with each run's answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlhf.compare.groups import Group
from rlhf.report.curves import number
from rlhf.report.folder import Row

SCORES = ("score", "gold")


@dataclass(frozen=True)
class Answer:
    """What the first run of a group said, or how it scored a pair."""

    letter: str
    text: str
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Exchange:
    """A prompt with the answers to it."""

    prompt: str
    answers: Sequence[Answer]


def exchanges(groups: Sequence[Group]) -> list[Exchange]:
    """The prompts of the base line's last evaluation that another group answered too, in their order."""
    tables = [_by_prompt(each.first.last_samples) for each in groups]
    found = []
    for prompt in tables[0]:
        answers = [
            answer
            for group, table in zip(groups, tables, strict=True)
            if prompt in table
            for answer in _answers(group.letter, table[prompt])
        ]
        if len({each.letter for each in answers}) > 1:
            found.append(Exchange(prompt, answers))
    return found


def _by_prompt(samples: Sequence[Row]) -> dict[str, Row]:
    """The first row of each prompt."""
    table: dict[str, Row] = {}
    for row in samples:
        table.setdefault(str(row["prompt"]), row)
    return table


def _answers(letter: str, row: Row) -> Iterator[Answer]:
    if "chosen" in row:
        yield Answer(letter, "", {side: number(row[f"score_{side}"]) for side in ("chosen", "rejected")})
    elif "response" in row:
        yield Answer(letter, str(row["response"]), {name: number(row[name]) for name in SCORES if name in row})
