"""``python -m rlhf chat RUN [RUN2] [key=value ...]``: a terminal, or lines from a pipe."""

import io
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rlhf.chat import find
from rlhf.chat.conversation import HINT, Conversation, Side, refuse
from rlhf.command_line import EXIT_OK, report_faults
from rlhf.config import CONF, ChatConfig
from rlhf.fault import Fault
from rlhf.overrides import apply
from rlhf.runs import artifact_of
from rlhf.visible import visible

MOST_RUNS = 2
OUTPUTS = "paths.outputs="
"""Before the folder in which runs are looked for by name."""


def main(arguments: list[str]) -> int:
    """Serve the verb."""
    words = [word for word in arguments if "=" not in word]
    try:
        if not 1 <= len(words) <= MOST_RUNS:
            raise Fault("chat: takes one run, or two to stand side by side; write python -m rlhf chat outputs/runs/<name>")
        settings = settings_of([word for word in arguments if "=" in word and not word.startswith(OUTPUTS)])
        outputs = next((word.removeprefix(OUTPUTS) for word in reversed(arguments) if word.startswith(OUTPUTS)), None)
        paths = [artifact_of(word, outputs) for word in words]
        reward = settings.reward
        judges = [artifact_of(reward, outputs)] if reward else [found for found in map(find.reward_model_of, paths) if found]
        return _talk(_conversation(paths, judges, settings))
    except Fault as fault:
        return report_faults([str(fault)])


def settings_of(overrides: list[str]) -> DictConfig:
    """The settings of ``conf/chat`` with ``overrides``.

    Raises:
        Fault: there is no such setting, or its value is wrong.
    """
    settings = OmegaConf.merge(OmegaConf.structured(ChatConfig), OmegaConf.load(CONF / "chat" / "default.yaml"))
    assert isinstance(settings, DictConfig)
    apply(settings, overrides, HINT)
    refuse(settings)
    return settings


def _conversation(paths: list[Path], judges: list[Path], settings: DictConfig) -> Conversation:
    from rlhf.chat.speaker import Judge, Speaker  # torch is imported from here on

    speakers = [Speaker(path) for path in paths]
    return Conversation(speakers, Judge(judges[0]) if judges else None, settings)


def _talk(conversation: Conversation) -> int:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a line that is not UTF-8 is told, and the next one read
    if not sys.stdin.isatty():
        return _pipe(conversation)
    import readline  # noqa: F401  # its import lets input() edit lines and remember them

    console = Console(highlight=False)
    names = " and ".join(side.speaker.name for side in conversation.sides)
    console.print(Text(f"{names}; /help lists the commands, Ctrl-D leaves", style="dim"))
    while True:
        try:
            line = input("you> ")
        except KeyboardInterrupt:
            console.print(Text("\nCtrl-D leaves", style="dim"))
            continue
        except EOFError:
            console.print()
            return EXIT_OK
        if not line.strip():
            continue
        try:
            if line.startswith("/"):
                console.print(Text(conversation.command(_readable(line)), style="dim"))
            elif len(conversation.sides) == 1:
                _one(console, conversation, _readable(line))
            else:
                _side_by_side(console, conversation, _readable(line))
        except EOFError:
            return EXIT_OK
        except Fault as fault:
            console.print(Text(str(fault), style="red"))


def _one(console: Console, conversation: Conversation, line: str) -> None:
    (side,) = conversation.sides
    printed = 0

    def show() -> None:
        nonlocal printed
        text = visible(side.answer)
        print(text[printed:], end="", flush=True)
        printed = len(text)

    conversation.say(line, show)
    print()
    if side.score is not None:
        console.print(Text(_score(side), style="dim"))


def _side_by_side(console: Console, conversation: Conversation, line: str) -> None:
    def table() -> Table:
        drawn = Table(expand=True)
        for side in conversation.sides:
            drawn.add_column(Text(side.speaker.name), ratio=1)
        drawn.add_row(*(Text(visible(side.answer)) for side in conversation.sides))
        if any(side.score is not None for side in conversation.sides):
            drawn.add_row(*(Text(_score(side), style="dim") for side in conversation.sides))
        return drawn

    with Live(table(), console=console, refresh_per_second=12, vertical_overflow="visible") as live:
        conversation.say(line, lambda: live.update(table()))
        live.update(table())


def _pipe(conversation: Conversation) -> int:
    """A prompt a line, a reply a line for each run: its name, the score if there is one, and the text on one line."""
    for line in sys.stdin:
        try:
            if line.startswith("/"):
                print(conversation.command(_readable(line)))
            elif line.strip():
                conversation.say(_readable(line).rstrip("\n"), lambda: None)
                for side in conversation.sides:
                    score = "" if side.score is None else f" [{_score(side)}]"
                    print(f"{side.speaker.name}{score}: {' '.join(visible(side.answer).split())}", flush=True)
        except EOFError:
            break
        except Fault as fault:
            print(fault, file=sys.stderr)
    return EXIT_OK


def _readable(line: str) -> str:
    """``line`` itself.

    Raises:
        Fault: it is not UTF-8.
    """
    try:
        line.encode()
    except UnicodeEncodeError:
        raise Fault("this line is not UTF-8 and was not said; write it in UTF-8") from None
    return line


def _score(side: Side) -> str:
    return "" if side.score is None else f"score {side.score:.3f}"
