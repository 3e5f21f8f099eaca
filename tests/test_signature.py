"""Names for results: golden values, and every field declared and heard."""

import copy
import dataclasses
import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest

from rlhf import config
from rlhf.config import Run, SourceConfig
from rlhf.signature import ENGINE_READS, FORMAT, result_signature, run_signature, signed_fields
from rlhf.stages.table import TABLE

DATACLASSES = [each for each in vars(config).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
PARENTS = {"sft": "0123456789abcdef"}
DIGEST = "d" * 64

GOLDEN = {
    "pretrain": ("6b319bf267c8a1c3", "00ab6a91"),
    "sft": ("e082786f14613b5c", "ecd7689d"),
    "rm": ("6f2c893add43f760", "d13f83a6"),
    "ppo": ("7827ea31cb4c97c2", "798a954b"),
    "dpo": ("ad8f7c006d75e142", "8042b9e5"),
    "kto": ("8781122024c9ae0f", "b50c46f1"),
    "rloo": ("e5e54cf62989474b", "94a8dbf9"),
    "grpo": ("3f9e0f355069edb0", "f04bcc9f"),
    "best_of_n": ("f16af991aab1435d", "39ab9538"),
}
"""Result and run signatures of the hand-made run. A change here makes every artifact on people's disks unknown: if a field
was added or `reads` changed on purpose, write the new values down; if the meaning of a field changed, raise `FORMAT` too."""


def filled(kind: Any, name: str) -> Any:
    """A value of a field's type that depends on its name only."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return filled(arguments[0], name)
    if origin is list:
        return [name]
    if origin is dict:
        return {"one": filled(arguments[1], name)}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{item.name: filled(hints[item.name], item.name) for item in dataclasses.fields(kind)})
    if issubclass(kind, Enum):
        return next(iter(kind))
    return {bool: False, int: len(name), float: len(name) / 8, str: name}[kind]


def changed(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, Enum):
        return list(type(value))[1]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "!"
    if isinstance(value, list):
        return [*value, "more"]
    assert isinstance(value, dict)
    return {**value, "more": "more"}


def leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The way to each field that holds a plain value, and what it is declared to affect."""
    for item in dataclasses.fields(node):
        value = getattr(node, item.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, (*path, item.name))
        elif isinstance(value, dict) and any(map(dataclasses.is_dataclass, value.values())):
            for key, inner in value.items():
                yield from leaves(inner, (*path, item.name, key))
        else:
            yield (*path, item.name), item.metadata["affects"]


def parent_of(node: Any, path: tuple[str, ...]) -> Any:
    for step in path[:-1]:
        node = node[step] if isinstance(node, dict) else getattr(node, step)
    return node


def signatures(run: Run, stage: str, parents: dict[str, str] = PARENTS, digest: str = DIGEST) -> tuple[str, str]:
    result = result_signature(run, stage, TABLE[stage].reads, parents, digest)
    return result, run_signature(run, stage, TABLE[stage].reads, result)


BASE: Run = filled(Run, "run")
LEAVES = list(leaves(BASE))


@pytest.mark.parametrize("kind", DATACLASSES, ids=lambda kind: kind.__name__)
def test_every_field_says_what_it_affects(kind: type) -> None:
    assert dataclasses.fields(kind)
    for item in dataclasses.fields(kind):
        assert item.metadata.get("affects") in {"result", "system"}, f"{kind.__name__}.{item.name}"


@pytest.mark.parametrize("stage", TABLE)
def test_golden_signatures(stage: str) -> None:
    assert signatures(BASE, stage) == GOLDEN[stage]
    assert signatures(copy.deepcopy(BASE), stage) == GOLDEN[stage]
    assert (FORMAT, *map(len, GOLDEN[stage])) == (1, 16, 8)


@pytest.mark.parametrize("stage", TABLE)
def test_each_field_changes_the_names_it_should_and_no_other(stage: str) -> None:
    result, own = signatures(BASE, stage)
    heard = set()
    for path, affects in LEAVES:
        run = copy.deepcopy(BASE)
        holder = parent_of(run, path)
        setattr(holder, path[-1], changed(getattr(holder, path[-1])))
        read = path[0] in (*ENGINE_READS, *TABLE[stage].reads)
        new_result, new_own = signatures(run, stage)
        assert (new_result != result) == (read and affects == "result"), path
        assert (new_own != own) == (read and path[-1] != "usual"), path  # which has done all it does before a run is signed
        heard |= {path[0]} if read else set()
    assert heard == {*ENGINE_READS, *TABLE[stage].reads}  # a name in `reads` that is no field would be heard by nobody


def test_a_null_is_not_the_value_it_replaces() -> None:
    hints = {kind: typing.get_type_hints(kind) for kind in DATACLASSES}
    optional = [
        (path, affects)
        for path, affects in LEAVES
        if type(None) in typing.get_args(hints[type(parent_of(BASE, path))][path[-1]]) and path[0] in TABLE["ppo"].reads
    ]
    assert optional
    for path, affects in optional:
        run = copy.deepcopy(BASE)
        setattr(parent_of(run, path), path[-1], None)
        assert (signatures(run, "ppo")[0] != signatures(BASE, "ppo")[0]) == (affects == "result"), path
    without = copy.deepcopy(BASE)
    without.model.arch = None
    assert signatures(without, "sft")[0] != signatures(BASE, "sft")[0]


def test_the_stage_its_parents_and_its_data_are_part_of_the_name() -> None:
    results = {
        signatures(BASE, "ppo")[0],
        result_signature(BASE, "sft", TABLE["ppo"].reads, PARENTS, DIGEST),
        signatures(BASE, "ppo", parents={"sft": "f" * 16})[0],
        signatures(BASE, "ppo", parents={})[0],
        signatures(BASE, "ppo", parents={"rm": PARENTS["sft"]})[0],
        signatures(BASE, "ppo", digest="e" * 64)[0],
    }
    assert len(results) == 6


def test_the_run_signature_hangs_on_the_result() -> None:
    assert len({run_signature(BASE, "sft", TABLE["sft"].reads, result) for result in ("a" * 16, "b" * 16)}) == 2


def test_which_stage_was_asked_for_does_not_rename_a_parent() -> None:
    """`stage=ppo` and `stage=rm` must find the same SFT policy."""
    asked = dataclasses.replace(BASE, stage="ppo")
    assert signatures(asked, "sft") == signatures(BASE, "sft")


def test_sources_count_by_name_and_not_by_order() -> None:
    first, second = copy.deepcopy(BASE), copy.deepcopy(BASE)
    source: SourceConfig = filled(SourceConfig, "source")
    first.data.sources = {"a": source, "b": dataclasses.replace(source, weight=3.0)}
    second.data.sources = dict(reversed(first.data.sources.items()))
    assert signatures(first, "sft") == signatures(second, "sft")
    second.data.sources = {"a": source, "c": dataclasses.replace(source, weight=3.0)}
    assert signatures(first, "sft")[0] != signatures(second, "sft")[0]


def test_infinity_is_a_value_like_any_other() -> None:
    """`sft.max_grad_norm=inf` switches clipping off."""
    run = copy.deepcopy(BASE)
    run.sft.max_grad_norm = float("inf")
    assert signatures(run, "sft")[0] != signatures(BASE, "sft")[0]
    assert signatures(run, "sft") == signatures(copy.deepcopy(run), "sft")


def test_settings_of_adapters_that_are_not_there_name_nothing() -> None:
    for group, stage in (("lora", "sft"), ("reward_lora", "rm")):
        without, scaled = copy.deepcopy(BASE), copy.deepcopy(BASE)
        for run in (without, scaled):
            getattr(run, group).dim = 0
        getattr(scaled, group).alpha = 32.0
        assert signatures(scaled, stage) == signatures(without, stage) != signatures(BASE, stage)


def test_a_switch_that_is_off_names_nothing() -> None:
    """Runs from before there was such a key are still known."""
    assert "packing" not in signed_fields(BASE, "sft", TABLE["sft"].reads, {"system"})["sft"]
    on = copy.deepcopy(BASE)
    on.sft.packing = True
    assert signed_fields(on, "sft", TABLE["sft"].reads, {"system"})["sft"]["packing"] is True


def test_what_is_signed_can_be_read_by_a_person() -> None:
    signed = signed_fields(BASE, "sft", TABLE["sft"].reads, {"result"})
    assert signed["stage"] == "sft" and signed["precision"] == "fp32"
    assert signed["data"]["sources"]["one"] == {
        "cap": 3,
        "columns": {"one": "columns"},
        "format": "auto",
        "keep": {"one": ["keep"]},
        "stages": ["stages"],
        "weight": 0.75,
    }
    assert "ppo" not in signed and "micro_batch_size" not in signed["sft"]
    assert set(signed_fields(BASE, "sft", TABLE["sft"].reads, {"system"})["data"]["sources"]["one"]) == {
        "files",
        "path",
        "split",
        "streaming",
        "subset",
    }
