"""What a stage is given: prompts as turns, with a demonstration, a preferred pair, or nothing."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Turn:
    """One contribution to a dialogue."""

    role: str
    """`system`, `user` or `assistant`."""
    text: str


@dataclass(frozen=True)
class Example:
    """A prompt, with what is known about answers to it."""

    turns: tuple[Turn, ...]
    """The prompt; its last turn is the user's. Empty for a document, whose text is the `response`."""
    response: str | None
    """The demonstrated or preferred answer; None: a prompt only."""
    rejected: str | None
    """The answer that lost against `response`; None: no comparison. Empty where a model really said nothing."""
    source: str
    """Name under `data.sources`."""
    probability: float | None = None
    """Probability, under a known gold reward, that `response` is preferred; None: unknown."""
    ranking: tuple[str, ...] = ()
    """All answers from best to worst where there are more than two; `response` and `rejected` are its ends."""
    margin: float | None = None
    """How much better than `rejected` people found `response`; None: unknown."""
    rating: float | None = None
    """How good people found `response`; None: unknown."""
    demonstrates: bool = True
    """Whether `response` is to be imitated: not where it was only rated, or rated as bad."""
    solution: str | None = None
    """The demonstrated answer of a prompt that is only a prompt: for rewards that check against it, never for the policy."""
    places: tuple[int, ...] = ()
    """Where each of ``answers`` stood in the row, the first at 0, best answer first; empty where rows keep no order."""

    def __post_init__(self) -> None:
        document = not self.turns and self.response is not None and self.rejected is None
        assert document or (self.turns and self.turns[-1].role == "user"), "a prompt ends with a user turn"
        assert self.rejected is None or self.response is not None, "a rejected answer needs a preferred one"
        assert not self.ranking or (self.response, self.rejected) == (self.ranking[0], self.ranking[-1])
        assert len(self.places) in (0, len(self.answers)), "every answer has a place, or none"

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers to the prompt, best first."""
        if self.ranking:
            return self.ranking
        best = self.response or ""
        return (best,) if self.rejected is None else (best, self.rejected)

    @property
    def ratings(self) -> tuple[float, ...] | None:
        """The rating of each answer, best first; None where one is not known."""
        if self.rating is None or len(self.ranking) > 2:
            return None
        if self.rejected is None:
            return (self.rating,)
        return None if self.margin is None else (self.rating, self.rating - self.margin)

    def told(self, system: str) -> "Example":
        """This example with ``system`` in front, unless it begins with the system's turn or is a document."""
        if not self.turns or self.turns[0].role == "system":
            return self
        return replace(self, turns=(Turn("system", system.strip()), *self.turns))

    @cached_property
    def key(self) -> str:
        """What identifies the prompt (a document: its text): SHA-256 (hex) of its turns, runs of white space taken as one."""
        return _digest(self.turns or [Turn("document", self.response or "")])

    @cached_property
    def talk(self) -> str:
        """As ``key``, of the turns but the system's: what is drawn by it stays the same under another system prompt."""
        return _digest([turn for turn in self.turns if turn.role != "system"]) if self.turns else self.key

    @cached_property
    def opening(self) -> str:
        """What identifies the dialogue: as ``key``, of its first user turn alone.

        Data sets cut one dialogue into several prompts, each a continuation of the last; they share their opening, as do
        dialogues that differ in what the system says first.
        """
        if not self.turns:
            return self.key
        first = next(index for index, turn in enumerate(self.turns) if turn.role == "user")
        return _digest(self.turns[first : first + 1])


class BadRow(ValueError):
    """A row that cannot be read."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


class BadDialogue(BadRow):
    """A dialogue in which nobody can tell who answers whom. Public sets hold many."""


def _digest(turns: Iterable[Turn]) -> str:
    words = [[turn.role, " ".join(turn.text.split())] for turn in turns]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
