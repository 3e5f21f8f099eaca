"""Every key of the schema with its type and meaning, found by path or by its last word."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

from rlhf import config, manual, mistyped

TOUCHES = {
    "result": "can change the weights a run ends with",
    "system": "cannot change the weights beyond rounding",
    "content": "says where something is; what is found there can change the weights a run ends with, and is signed",
}


@dataclass(frozen=True)
class Key:
    """A field of the schema. ``<name>`` in its path stands for the name of a source."""

    path: str
    kind: Any
    meaning: str
    affects: str
    bounds: str = ""

    @property
    def group(self) -> type | None:
        """The dataclass whose keys are below this one, if there are any."""
        return next(
            (part for part in manual.parts(self.kind) if isinstance(part, type) and dataclasses.is_dataclass(part)), None
        )

    def about(self, word: str) -> bool:
        """Whether ``word`` is this key, of whatever source."""
        pattern = r"(<name>|\w+)".join(map(re.escape, self.path.split("<name>")))
        return re.fullmatch(pattern, word) is not None


@cache
def every() -> tuple[Key, ...]:
    """All keys, groups before what is in them."""
    return tuple(_below("", config.Run, manual.documented()))


def find(word: str) -> list[Key]:
    """The key that ``word`` names, else those whose last part it is; empty if there is none."""
    exact = [key for key in every() if key.about(word)]
    return exact or [key for key in every() if key.path.rpartition(".")[2] == word]


def is_known(word: str) -> bool:
    """Whether ``word`` can stand on the left of an override: a key, a name of one's own in a mapping, or a group of options."""
    own = [word.rsplit(".", below)[0] for below in range(1, word.count(".") + 1)]
    mapped = any(key.about(each) and get_origin(key.kind) is dict and key.group is None for key in every() for each in own)
    return mapped or any(key.about(word) for key in every()) or word in _groups()


def near(word: str) -> str:
    """What was meant by a ``word`` that is not known."""
    return mistyped.near(word, sorted({*(key.path for key in every()), *_groups()}))


def lines(key: Key, word: str, run: DictConfig) -> Iterator[str]:
    """What ``key`` means and is in ``run``; ``word`` is how it was asked for."""
    path = word if key.about(word) and OmegaConf.select(run, word.rpartition(".")[0] or "stage") is not None else key.path
    group = key.group
    if group is not None:
        yield f"{path}: a group of keys"
        yield f"  {inspect.getdoc(group)}"
        yield from _options(path)
        yield from (f"  {name} = {_text(value)}" for name, value in _inside(OmegaConf.select(run, path), path))
        return
    kind = manual.type_text(key.kind, key.bounds)
    yield f"{path}: {'one of ' if kind.startswith('`') else ''}{kind}".replace("`", "")
    yield f"  {key.meaning}"
    yield from (f"  here {name} = {_text(value)}" for name, value in _values(path, run))
    yield f"  touches {key.affects}: {TOUCHES[key.affects]}"


def text_at(path: str, run: DictConfig) -> str:
    """The value at ``path`` of ``run``, as it is written on a command line."""
    return _text(OmegaConf.select(run, path))


def recipes(group: str) -> Iterator[str]:
    """The options of a folder of ``conf/`` that is no group of keys (`experiment`, `debug`, `source`)."""
    if group in _groups():
        yield f"{group}: options that set keys of several groups at once, or of a source"
        yield from _options(group)


def _groups() -> set[str]:
    return {folder.name for folder in config.CONF.iterdir() if folder.is_dir()}


def _below(prefix: str, schema: type, documented: dict[tuple[str, str], str]) -> Iterator[Key]:
    kinds = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        path, kind = prefix + field.name, kinds[field.name]
        meaning = manual.meaning(schema, field.name, documented)
        key = Key(path, kind, meaning, manual.touches(field), manual.bounds(field))
        yield key
        if key.group is not None:
            inner = f"{path}.<name>." if get_origin(kind) is dict else f"{path}."
            if get_origin(kind) is dict:
                yield Key(inner.removesuffix("."), get_args(kind)[1], key.meaning, key.affects)
            yield from _below(inner, key.group, documented)


def _values(path: str, run: DictConfig) -> Iterator[tuple[str, Any]]:
    """The value at ``path``; with `<name>` in it, the values of all sources."""
    before, name, after = path.partition("<name>")
    if not name:
        yield path, OmegaConf.select(run, path)
    else:
        for each in OmegaConf.select(run, before.removesuffix(".")):
            yield f"{before}{each}{after}", OmegaConf.select(run, f"{before}{each}{after}")


def _inside(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig):
        yield from ((f"{path}.{name}", node[name]) for name in map(str, node))


def _options(group: str) -> Iterator[str]:
    """The options of a group, each with the first sentence of what its file says."""
    for line in manual.options(group):
        option, about, comment = line.removeprefix("- ").replace("`", "").partition(": ")
        first, stop, _ = comment.partition(". ")
        yield f"  {option}{about}{first}{stop.strip()}"


def _text(value: Any) -> str:
    if isinstance(value, DictConfig):
        return "{" + ", ".join(map(str, value)) + "}"
    if isinstance(value, ListConfig):
        return "[" + ", ".join(map(_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return getattr(value, "name", str(value))
