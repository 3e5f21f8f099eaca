"""Writes ``docs/config.md``, the manual of every key, from the schema and the configuration tree; and ``docs/catalogue.md``.

``python -m rlhf.manual`` writes them; ``--check`` writes nothing and exits 1 when one is stale or a field is not documented.
"""

import ast
import dataclasses
import importlib
import inspect
import itertools
import pkgutil
import sys
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf

from rlhf import catalogue, config
from rlhf.config import COMPANIONS, CONF

MANUAL = Path(__file__).parent.parent / "docs" / "config.md"
CATALOGUE = Path(__file__).parent.parent / "docs" / "catalogue.md"

HEADER = """\
# Every key

Written by `python -m rlhf.manual` from `rlhf/config/` and `conf/`; change those, not this page.

A key is set on the command line as `key=value`, a whole group as `group=option`. **touches** says what a key can change:
`result` keys can change the weights a run ends with, so a stage finds its parents by them; `system` keys change only how
fast, where or in what pieces the same weights are computed, or what is measured on the way; `content` keys say where
something is, and what is found there can change the weights, so a stage finds its parents by that content. Of all three,
only what a stage reads enters its name. **default** is the value of the option named above the table.
"""


def main(arguments: list[str]) -> int:
    """Write both pages, or with ``--check`` only compare; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m rlhf.manual [--check]", file=sys.stderr)
        return 2
    found = [fault for module in _modules() for fault in faults(module)]
    if found:
        print("\n".join(found), file=sys.stderr)
        return 1
    stale = [(path, page) for path, page in pages().items() if not path.is_file() or path.read_text() != page]
    for path, page in stale:
        if arguments:
            print(f"docs/{path.name} is stale; write it anew with: python -m rlhf.manual", file=sys.stderr)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(page)
    return int(bool(arguments and stale))


def pages() -> dict[Path, str]:
    """What each generated page holds, by its place."""
    return {MANUAL: render(), CATALOGUE: catalogue.render()}


def documented() -> dict[tuple[str, str], str]:
    """The string under each field of the schema, by (class, field)."""
    return {place: text for module in _modules() for place, text in docstrings(inspect.getsource(module)).items()}


def _modules() -> list[types.ModuleType]:
    found = pkgutil.iter_modules(config.__path__, f"{config.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def faults(module: types.ModuleType) -> list[str]:
    """Fields of ``module``'s dataclasses that lack a docstring or do not say what they touch."""
    strings = docstrings(inspect.getsource(module)) | documented()
    found = []
    for name, schema in vars(module).items():
        if name.startswith("_") or not (
            inspect.isclass(schema) and dataclasses.is_dataclass(schema) and schema.__module__ == module.__name__
        ):
            continue
        for field in dataclasses.fields(schema):
            if not meaning(schema, field.name, strings):
                found.append(f"{name}.{field.name}: has no docstring; write one on the line under it")
            if field.metadata.get("affects") not in ("result", "system"):
                found.append(f"{name}.{field.name}: does not say what it touches; declare it with result() or system()")
    return found


def docstrings(source: str) -> dict[tuple[str, str], str]:
    """The string under each annotated field of each class in ``source``, by (class, field)."""
    found = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        for statement, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
                if isinstance(text, str) and text.strip():
                    found[node.name, statement.target.id] = " ".join(text.split())
    return found


def render() -> str:
    """The whole page."""
    strings = documented()
    root = _load(CONF / "config.yaml")
    chosen = {key: option for entry in root.pop("defaults") if isinstance(entry, dict) for key, option in entry.items()}
    sections = [HEADER, "## At the root\n\n" + _table("", config.Run, {**root, "stage": chosen["stage"]}, strings)]
    for name, schema in get_type_hints(config.Run).items():
        if not (inspect.isclass(schema) and dataclasses.is_dataclass(schema)):
            continue
        if name == "reward_model":
            sections.append("## reward_model\n\nThe keys and options of `model`, in the second slot.\n")
            continue
        option = _default_option(name, chosen)
        values = _load(CONF / name / f"{option}.yaml") if option else root[name]
        sections.append("\n".join(_section(name, schema, option, values, strings)))
    sections.append("## experiment, sweep, debug\n\nRecipes: they set keys of several groups at once.\n")
    sections.append("\n".join(options("experiment") + options("sweep") + options("debug")) + "\n")
    return "\n".join(sections)


def _section(
    name: str, schema: type, option: str, values: dict[str, Any], strings: dict[tuple[str, str], str]
) -> Iterator[str]:
    yield f"## {name}\n\n{inspect.getdoc(schema)}\n"
    if option:
        yield "\n".join(options(name)) + "\n"
        usual = ", else `default`" if (CONF / name / "default.yaml").is_file() else ""
        auto = f"; without a choice the model's usual one{usual}" if name in COMPANIONS else ""
        yield f"The defaults below are those of `{name}={option}`{auto}.\n"
    yield _table(f"{name}.", schema, values, strings)
    for field, kind in get_type_hints(schema).items():
        inner = next((each for each in parts(kind) if inspect.isclass(each) and dataclasses.is_dataclass(each)), None)
        if inner is not None:
            path = f"{name}.{field}.<name>." if get_origin(kind) is dict else f"{name}.{field}."
            inner_values = _load(CONF / "source" / "default.yaml") if field == "sources" else values.get(field) or {}
            yield f"### {path.removesuffix('.')}\n\n{inspect.getdoc(inner)}\n"
            yield _table(path, inner, inner_values, strings)


def _table(prefix: str, schema: type, values: dict[str, Any], strings: dict[tuple[str, str], str]) -> str:
    rows = ["| key | type | default | touches | meaning |", "|---|---|---|---|---|"]
    kinds = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        kind = kinds[field.name]
        if not prefix and dataclasses.is_dataclass(kind):
            continue  # has a section of its own
        told = meaning(schema, field.name, strings)
        default = _value(values[field.name]) if field.name in values else "–"
        if any(dataclasses.is_dataclass(part) for part in parts(kind)) and get_origin(kind) is not dict:
            default = "–"
        cells = [f"`{prefix}{field.name}`", type_text(kind, bounds(field)), default, touches(field), told]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def meaning(schema: type, field: str, strings: dict[tuple[str, str], str]) -> str:
    """The docstring of a field, its own or inherited."""
    return next((strings[each.__name__, field] for each in schema.__mro__ if (each.__name__, field) in strings), "")


def parts(kind: Any) -> tuple[Any, ...]:
    """What a type such as a list, a dict or an optional is made of; another type itself."""
    return get_args(kind) or (kind,)


def bounds(field: dataclasses.Field[Any]) -> str:
    """The range a field's number may be in, in words; empty where there is none."""
    return str(field.metadata.get("bounds", ""))


def touches(field: dataclasses.Field[Any]) -> str:
    """What a field can change: `result`, `system`, or `content` by what is found where it points."""
    return "content" if field.metadata.get("content") else str(field.metadata["affects"])


def type_text(kind: Any, bounds: str = "") -> str:
    """A type in plain words, a number with its ``bounds``; an enumeration as its choices."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("`null`" if part is type(None) else type_text(part, bounds) for part in inner)
    if origin is list:
        return f"list of {type_text(inner[0])}"
    if origin is dict:
        return f"{type_text(inner[1])} by name"
    if dataclasses.is_dataclass(kind):
        return "keys below"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " ".join(f"`{choice}`" for choice in kind.__members__)
    words = {str: "text", int: "whole number", float: "number", bool: "`true` `false`"}
    return f"{words[kind]} {bounds}" if bounds else words[kind]


def _value(value: Any) -> str:
    if value == "???":
        return "you say"
    if isinstance(value, dict):
        return ", ".join(f"`{key}`" for key in value)
    if value is None:
        return "`null`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _default_option(group: str, chosen: dict[str, str]) -> str:
    """The option whose values are shown: the root's; for `auto` the group's `default`, else the root's model's usual one."""
    option = chosen.get(group, "")
    if group in COMPANIONS and option == "auto":
        usual = _load(CONF / "model" / f"{chosen['model']}.yaml")["usual"]
        return "default" if (CONF / group / "default.yaml").is_file() else str(usual[group])
    return option


def options(group: str) -> list[str]:
    """The options of a group as a list, each with the comment at the head of its file."""
    found = [f"- `{group}={file.stem}`{_comment(file)}" for file in sorted((CONF / group).glob("*.yaml"))]
    return [*found, "- `data=NAME`: One data set of the [catalogue](catalogue.md) alone."] if group == "data" else found


def _load(path: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def _comment(path: Path) -> str:
    """The comment at the head of a file as `: text`, if it has one."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# @package")]
    head = [line.lstrip("# ").strip() for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    return ": " + " ".join(head) if head else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
