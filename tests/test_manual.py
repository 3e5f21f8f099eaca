"""The manual is current and complete, and would notice if it were not."""

import dataclasses
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf import config, manual

HEAD = """
from dataclasses import dataclass
from enum import Enum
from typing import Optional
from rlhf.config import result, system

@dataclass
class Base:
    first: int = result()
    \"\"\"Inherited.\"\"\"

"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], types.ModuleType]]:
    """Make a module of schemas from the text of its last class."""

    def make(text: str) -> types.ModuleType:
        path = tmp_path / "made_schema.py"
        path.write_text(HEAD + text)
        spec = importlib.util.spec_from_file_location("made_schema", path)
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules["made_schema"] = made
        spec.loader.exec_module(made)
        return made

    yield make
    sys.modules.pop("made_schema", None)


def test_the_manual_is_current() -> None:
    assert manual.MANUAL.read_text() == manual.render(), "write it anew with: python -m rlhf.manual"


def test_every_field_is_documented_and_says_what_it_touches() -> None:
    assert manual.faults(config) == []


def test_every_field_of_every_schema_has_a_row() -> None:
    page = manual.render()
    for schema, prefix in (
        (config.SFTConfig, "sft."),
        (config.ArchConfig, "model.arch."),
        (config.SourceConfig, "data.sources.<name>."),
    ):
        for field in dataclasses.fields(schema):
            assert f"| `{prefix}{field.name}` |" in page


def test_a_documented_field_passes(module: Callable[[str], types.ModuleType]) -> None:
    assert manual.faults(module('@dataclass\nclass Some(Base):\n    key: int = result()\n    """Meaning."""\n')) == []


@pytest.mark.parametrize(
    ("field", "fault"),
    [
        ("key: int = result()", "Some.key: has no docstring"),
        ("key: int = result()\n    # a comment is none", "Some.key: has no docstring"),
        ('key: int = result()\n    """ """', "Some.key: has no docstring"),
        ('key: int = 3\n    """Meaning."""', "Some.key: does not say what it touches"),
    ],
)
def test_a_field_that_is_not_is_a_fault(field: str, fault: str, module: Callable[[str], types.ModuleType]) -> None:
    (found,) = manual.faults(module(f"@dataclass\nclass Some(Base):\n    {field}\n"))
    assert found.startswith(fault)


def test_a_docstring_belongs_to_the_field_above_it_only() -> None:
    source = 'class A:\n    """About A."""\n    one: int = 1\n    two: int = 2\n    """About\n    two."""\n'
    assert manual.docstrings(source) == {("A", "two"): "About two."}


def test_check_fails_on_a_stale_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual, "MANUAL", tmp_path / "docs" / "config.md")
    assert manual.main(["--check"]) == 1
    assert manual.main([]) == 0
    assert manual.main(["--check"]) == 0
    manual.MANUAL.write_text(manual.MANUAL.read_text().replace("`seed`", "`sead`"))
    assert manual.main(["--check"]) == 1


def test_a_pipe_does_not_break_the_table(module: Callable[[str], types.ModuleType]) -> None:
    made = module('@dataclass\nclass Some(Base):\n    key: Optional[int] = system()\n    """One | two."""\n')
    documented = {("Some", "key"): "One | two.", ("Base", "first"): "Inherited."}
    last = manual._table("some.", made.Some, {"key": None, "first": 1}, documented).splitlines()[-1]
    assert last == "| `some.key` | whole number or `null` | `null` | system | One \\| two. |"
