"""Who remembers what, what a person may change, and where Ctrl-C leaves a reply."""

from collections.abc import Iterator

import pytest

from rlhf.chat.conversation import Conversation
from rlhf.chat.terminal import settings_of
from rlhf.config import ChatConfig
from rlhf.data.records import Turn
from rlhf.fault import Fault


class Parrot:
    """Answers with its name and the last word, in two pieces."""

    def __init__(self, name: str, interrupted: bool = False) -> None:
        self.name, self._interrupted = name, interrupted
        self.heard: list[tuple[tuple[Turn, ...], str]] = []

    def reply(self, turns: tuple[Turn, ...], settings: ChatConfig, key: str) -> Iterator[str]:
        self.heard.append((turns, key))
        yield f"{self.name} "
        if self._interrupted:
            raise KeyboardInterrupt
        yield turns[-1].text


class Length:
    """Scores an answer by its characters."""

    def score(self, turns: tuple[Turn, ...], answer: str) -> float:
        assert turns[-1].role == "user"
        return float(len(answer))


def conversation(*speakers: Parrot, **settings: object) -> Conversation:
    return Conversation(speakers, Length(), settings_of([f"{key}={value}" for key, value in settings.items()]))


def test_each_side_remembers_its_own_answers() -> None:
    a, b = Parrot("a"), Parrot("b")
    talk = conversation(a, b)
    for text in ("one", "two"):
        talk.say(text, lambda: None)
    assert a.heard[1][0] == (Turn("user", "one"), Turn("assistant", "a one"), Turn("user", "two"))
    assert b.heard[1][0][1] == Turn("assistant", "b one")
    assert [side.score for side in talk.sides] == [5.0, 5.0]


def test_sides_share_their_noise_and_each_turn_has_its_own() -> None:
    a, b = Parrot("a"), Parrot("b")
    talk = conversation(a, b, seed=7)
    for text in ("one", "two"):
        talk.say(text, lambda: None)
    assert [key for _, key in a.heard] == [key for _, key in b.heard] == ["7/chat/0", "7/chat/1"]
    talk.reset()
    talk.say("one", lambda: None)
    assert a.heard[2] == a.heard[0]  # forgotten: the same again


def test_pieces_come_in_turns() -> None:
    talk, seen = conversation(Parrot("a"), Parrot("b")), []
    talk.say("x", lambda: seen.append([side.answer for side in talk.sides]))
    assert seen == [["a ", ""], ["a ", "b "], ["a x", "b "], ["a x", "b x"]]


def test_ctrl_c_ends_the_reply_and_keeps_what_was_said() -> None:
    talk = conversation(Parrot("a", interrupted=True))
    talk.say("one", lambda: None)
    assert talk.sides[0].turns[-1] == Turn("assistant", "a")
    talk.say("two", lambda: None)
    assert len(talk.sides[0].turns) == 4


def test_a_system_prompt_begins_anew() -> None:
    parrot = Parrot("a")
    talk = conversation(parrot)
    talk.say("one", lambda: None)
    assert talk.command("/system Be brief.") == "system prompt: Be brief."
    talk.say("two", lambda: None)
    assert parrot.heard[1][0] == (Turn("system", "Be brief."), Turn("user", "two"))
    talk.command("/system")
    assert talk.sides[0].turns == []


def test_settings_are_shown_and_changed() -> None:
    talk = conversation(Parrot("a"), temperature=0.5)
    assert "temperature=0.5" in talk.command("/settings")
    assert "temperature=0.25" in talk.command("/settings temperature=0.25 top_p=1")
    assert (talk.settings.temperature, talk.settings.top_p) == (0.25, 1.0)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("/settings temprature=1", "temprature=1: "),
        ("/settings top_p=2", "top_p=2.0: must be above 0 and at most 1"),
        ("/settings max_new_tokens=many", "max_new_tokens=many: "),
        ("/reste", "/reste: there is no such command"),
    ],
)
def test_a_wrong_command_is_a_fault_and_changes_nothing(line: str, fault: str) -> None:
    talk = conversation(Parrot("a"))
    before = talk.settings
    with pytest.raises(Fault) as raised:
        talk.command(line)
    assert str(raised.value).startswith(fault) and talk.settings == before


def test_quit_leaves() -> None:
    with pytest.raises(EOFError):
        conversation(Parrot("a")).command("/quit")
