"""What was said, to one run or to two side by side, and what the person may change on the way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from omegaconf import DictConfig, OmegaConf

from rlhf import bounds
from rlhf.config import ChatConfig
from rlhf.data.records import Turn
from rlhf.fault import Fault
from rlhf.overrides import apply

HELP = """\
/system TEXT      set the system prompt and begin anew; without TEXT: none
/reset            forget what was said
/settings         show the settings; /settings temperature=0.2 top_p=1 changes them
/help             this
/quit             leave (so does Ctrl-D); Ctrl-C stops a reply"""
HINT = "the settings are those of /settings"


class Answers(Protocol):
    """Who can be talked to."""

    name: str

    def reply(self, turns: tuple[Turn, ...], settings: ChatConfig, key: str) -> Iterator[str]:
        """The pieces of an answer."""
        ...


class Scores(Protocol):
    """Who can say how good an answer is."""

    def score(self, turns: tuple[Turn, ...], answer: str) -> float:
        """The answer's score."""
        ...


@dataclass
class Side:
    """One run's own view of the conversation."""

    speaker: Answers
    turns: list[Turn] = field(default_factory=list)
    answer: str = ""
    """The reply being given, or the last one."""
    score: float | None = None


class Conversation:
    """One or more sides that hear the same person."""

    def __init__(self, speakers: Sequence[Answers], judge: Scores | None, settings: DictConfig) -> None:
        self.sides = [Side(speaker) for speaker in speakers]
        self._judge, self._settings = judge, settings
        self._said = 0
        self.reset()

    @property
    def settings(self) -> ChatConfig:
        """As they are now."""
        settings = OmegaConf.to_object(self._settings)
        assert isinstance(settings, ChatConfig)
        return settings

    def reset(self) -> None:
        """Forget what was said; the noise begins anew too."""
        self._said = 0
        system = self.settings.system
        for side in self.sides:
            side.turns = [Turn("system", system)] if system else []

    def say(self, text: str, shown: Callable[[], None]) -> None:
        """Answer ``text`` on all sides, a piece of each in turn; ``shown`` is called after every piece.

        A ``KeyboardInterrupt`` ends the reply: what was said of it by then stays.
        """
        settings, key = self.settings, f"{self.settings.seed}/chat/{self._said}"
        self._said += 1
        for side in self.sides:
            side.turns.append(Turn("user", text))
            side.answer, side.score = "", None
        open_replies = {id(side): side.speaker.reply(tuple(side.turns), settings, key) for side in self.sides}
        try:
            while open_replies:
                for side in self.sides:
                    if id(side) in open_replies:
                        piece = next(open_replies[id(side)], None)
                        if piece is None:
                            del open_replies[id(side)]
                        else:
                            side.answer += piece
                            shown()
        except KeyboardInterrupt:
            pass
        for side in self.sides:
            answer = side.answer.strip()
            if self._judge is not None:
                side.score = self._judge.score(tuple(side.turns), answer)
            side.turns.append(Turn("assistant", answer))

    def command(self, line: str) -> str:
        """Do what a line that begins with `/` asks for, and return what to tell the person.

        Raises:
            Fault: there is no such command, or a setting is wrong.
            EOFError: the person wants to leave.
        """
        word, _, rest = line.strip().partition(" ")
        match word:
            case "/quit" | "/exit":
                raise EOFError
            case "/help":
                return HELP
            case "/reset":
                self.reset()
                return "forgotten"
            case "/system":
                self._settings.system = rest.strip() or None
                self.reset()
                return f"system prompt: {rest.strip() or 'none'}"
            case "/settings":
                return self._change(rest.split())
            case _:
                raise Fault(f"{word}: there is no such command; /help lists them")

    def _change(self, overrides: list[str]) -> str:
        tried = self._settings.copy()
        apply(tried, overrides, HINT)
        refuse(tried)
        before, self._settings = self.settings, tried
        if before.system != tried.system:
            self.reset()
        return "  ".join(f"{key}={tried[key]}" for key in map(str, tried))


def refuse(settings: DictConfig) -> None:
    """Raise a ``Fault`` that names everything wrong with ``settings``."""
    config = OmegaConf.to_object(settings)
    assert isinstance(config, ChatConfig)
    if faults := list(bounds.faults(config)):
        raise Fault("; ".join(faults))
