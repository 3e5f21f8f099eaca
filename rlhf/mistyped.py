"""What is wrong with one override as it was typed, and what was likely meant."""

import difflib
import re

from hydra.core.override_parser.types import Override

from rlhf.config import catalogue


def line_of(override: Override) -> str:
    """The override as it was typed."""
    assert override.input_line is not None
    return override.input_line


def not_read(text: str) -> str:
    """Why ``text`` is no override, as far as its look tells."""
    key, _, value = text.partition("=")
    if value.startswith("choice(") and re.search(r"\bnull\b", value):
        return f"Hydra's choice() takes no null; write {key}={value.removeprefix('choice(').removesuffix(')')}"
    example = f'{key}=["a <= b"]' if value.startswith("[") else 'key="a b"'
    return f"not an override; write key=value ('{example}' for a value with signs)"


def of_choice(override: Override) -> str:
    """What is wrong with the way an option is chosen, if anything. Only a data set of the catalogue is added, under a name."""
    key, place = override.key_or_group, override.package or ""
    if key == "source" and not (override.is_add() and re.fullmatch(r"data\.sources\.\w+", place)):
        return "a data set is added to the mix under a name; write +source@data.sources.NAME=OPTION"
    if key != "source" and (override.is_add() or override.is_force_add() or override.is_delete()):
        return f"an option is chosen, not added or removed; write {key}=... alone"
    return ""


def of_key(override: Override, known: set[str]) -> str:
    """What is wrong with the key of a value, if anything. Only named sources may be added and removed."""
    key = override.key_or_group
    source = ".".join(key.split(".")[:3]) if key.startswith("data.sources.") else ""
    if key.startswith(("model.usual", "reward_model.usual")):
        return "only says what `auto` stands for; choose the group itself, as in data=demo"
    if override.is_delete():
        return "" if key == source and key in known else "only a source can be removed (~data.sources.<name>)"
    adds = override.is_add() or override.is_force_add()
    if source in known and re.fullmatch(r"data\.sources\.\w+\.(columns|keep)(\..+)?", key):
        return "" if adds or key.count(".") > 3 and key in known else f"holds names of your own; write +{line_of(override)}"
    if source and source not in known:
        name = source.rpartition(".")[2]
        option = name if name in catalogue() else "default"
        return f"there is no source `{name}` in this mix; add it before: +source@data.sources.{name}={option}"
    if key not in known:
        return f"there is no key `{key}`{', and keys cannot be added' if adds else ''}{near(key, sorted(known))}"
    if adds and key != "data.sources":
        return f"the key exists; write {key}=... without `{'++' if override.is_force_add() else '+'}`"
    return ""


def near(word: str, choices: list[str]) -> str:
    """The likeliest intended choice. What stands before the last dot counts as right if there is such a node."""
    parent, dot, last = word.rpartition(".")
    siblings = [choice for choice in choices if choice.rpartition(".")[0] == parent]
    initials = [choice for choice in siblings if last == "".join(part[0] for part in choice[len(parent + dot) :].split("_"))]
    close = difflib.get_close_matches(word, siblings if dot and siblings else choices, 1, 0.6)
    for match in initials[:1] or close:
        return f"; did you mean `{match}`?"
    return f"; choose from {', '.join(siblings)}" if siblings else ""


def near_option(word: str, options: list[str]) -> str:
    """The likeliest intended option, or all of them; a dot in one, as in opt1.3b, means nothing."""
    close = difflib.get_close_matches(word, options, 1, 0.6)
    return f"; did you mean `{close[0]}`?" if close else f"; choose from {', '.join(options)}" if options else ""
