"""Spaces as they are written: pinned, replaced, conditional, and with what a value brings along."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from rlhf import config, preflight
from rlhf.config import CONF
from rlhf.fault import Fault
from sweeps.cells import Cell, Composer
from sweeps.conditions import Condition
from sweeps.space import Choices, Interval, Space, text


@pytest.fixture
def space(hydra: None) -> Callable[..., Space]:
    """The space of arguments, with a `sweep` of one's own."""

    def make(*arguments: str, **sweep: Any) -> Space:
        node = OmegaConf.create({"space": {}, "only_if": {}, "brings": {}, **sweep})
        return Space.of(list(arguments), node)

    return make


def test_values_keep_their_types_and_order(space: Callable[..., Space]) -> None:
    found = space(
        "sft.epochs=range(1,4)", "lora=none,dim8", "sft.learning_rate=tag(log,interval(1e-5,1e-3))", "seed=int(interval(1,9))"
    )
    domains = [dimension.domain for dimension in found.dimensions]
    assert domains == [
        Choices((1, 2, 3), 1.0),
        Choices(("none", "dim8")),
        Interval(1e-5, 1e-3, log=True, whole=False),
        Interval(1, 9, log=False, whole=True),
    ]
    assert not found.is_finite


def test_a_typed_key_pins_or_replaces_a_dimension(space: Callable[..., Space]) -> None:
    written = {"lora": "choice(none,dim8)", "sft.epochs": "range(1,4)", "zero": "choice(0,1)"}
    found = space("lora=dim64", "zero=2,3", "seed=5", space=written)
    assert [(each.key, each.domain) for each in found.dimensions] == [
        ("zero", Choices((2, 3))),
        ("sft.epochs", Choices((1, 2, 3), 1.0)),
    ]
    assert found.fixed == ("lora=dim64", "seed=5")


def test_a_dimension_exists_only_where_its_condition_holds(space: Callable[..., Space]) -> None:
    written = {"lora": "choice(none,dim8)", "lora.alpha": "choice(8,16)"}
    found = space(space=written, only_if={"lora.alpha": "lora!=none"})
    assert [*found.points()] == [{"lora": "none"}, {"lora": "dim8", "lora.alpha": 8}, {"lora": "dim8", "lora.alpha": 16}]
    assert found.overrides({"lora": "none"}) == ["lora=none"]


def test_a_condition_may_look_at_what_is_pinned(space: Callable[..., Space]) -> None:
    written = {"lora": "choice(none,dim8)", "lora.alpha": "choice(8,16)"}
    assert [*space("lora=none", space=written, only_if={"lora.alpha": "lora!=none"}).points()] == [{}]


def test_conditions_are_joined_by_and(space: Callable[..., Space]) -> None:
    written = {"zero": "choice(1,2,3)", "lora": "choice(none,dim8)", "seed": "choice(1,2)"}
    found = space(space=written, only_if={"seed": "zero=2,3 and lora=none"})
    assert [point for point in found.points() if "seed" in point] == [
        {"zero": zero, "lora": "none", "seed": seed} for zero in (2, 3) for seed in (1, 2)
    ]


def test_what_comes_along_may_need_several_values(space: Callable[..., Space]) -> None:
    brings = {"lora!=none and sft.batch_size=16": ["sft.learning_rate=5e-3"], "zero=2 AND lora=none": ["seed=1,2"]}
    found = space("lora=none,dim8", "sft.batch_size=8,16", "zero=2", brings=brings)
    with_it = [point for point in found.points() if "sft.learning_rate=5e-3" in found.overrides(point)]
    assert with_it == [{"lora": "dim8", "sft.batch_size": 16}]
    assert [point["lora"] for point in found.points() if "seed" in point] == ["none"] * 4
    assert found.dimensions[-1].name == "seed if zero=2 and lora=none"


def test_a_number_is_the_same_however_it_is_written(space: Callable[..., Space]) -> None:
    found = space("sft.learning_rate=1e-3,2e-3", "seed=1,2", only_if={"seed": "sft.learning_rate=0.002"})
    assert [point["sft.learning_rate"] for point in found.points()] == [0.001, 0.002, 0.002]


def test_a_shipped_space_may_be_narrowed(space: Callable[..., Space]) -> None:
    """Its conditions name values that are not among those typed."""
    written, brings = {"lora": "choice(none,dim8)", "sft.batch_size": "choice(8,16)"}, {"sft.batch_size=16": ["seed=2"]}
    only_if = {"sft.batch_size": "lora=dim8"}
    found = space("lora=none", "sft.batch_size=32,64", space=written, only_if=only_if, brings=brings)
    assert [*found.points()] == [{}]
    assert len([*space("lora=dim64,dim8", space=written, only_if={"sft.batch_size": "lora=dim64"}).points()]) == 3


def test_a_value_brings_overrides_along_unless_they_are_typed(space: Callable[..., Space]) -> None:
    brings = {"lora=none": ["sft.learning_rate=1e-5", "sft.weight_decay=0"], "lora!=none": ["sft.learning_rate=1e-3"]}
    found = space("lora=none,dim8", "sft.weight_decay=0.5", brings=brings)
    assert found.overrides({"lora": "none"}) == ["sft.learning_rate=1e-5", "sft.weight_decay=0.5", "lora=none"]
    assert found.overrides({"lora": "dim8"}) == ["sft.learning_rate=1e-3", "sft.weight_decay=0.5", "lora=dim8"]


def test_a_value_brings_a_dimension_along_that_has_other_values_under_other_conditions(space: Callable[..., Space]) -> None:
    brings = {"lora=none": ["sft.learning_rate=1,2"], "lora!=none": ["sft.learning_rate=3,4"]}
    found = space("lora=none,dim8", brings=brings)
    points = [*found.points()]
    assert [(point["lora"], point["sft.learning_rate"]) for point in points] == [
        ("none", 1),
        ("none", 2),
        ("dim8", 3),
        ("dim8", 4),
    ]
    assert found.overrides(points[2]) == ["lora=dim8", "sft.learning_rate=3"]
    assert len({dimension.name for dimension in found.dimensions}) == 3
    assert [each.key for each in space("lora=none,dim8", "sft.learning_rate=9", brings=brings).dimensions] == ["lora"]


@pytest.mark.parametrize(
    ("arguments", "sweep", "said"),
    [
        (["seed=tag(log,interval(0,1))"], {}, "above 0 and in order"),
        (["seed=interval(2,1)"], {}, "below its second"),
        (["seed=1,2", "seed=3,4"], {}, "seed: is swept twice"),
        ([], {"space": {"seed": "choice(1,2)"}, "only_if": {"seed": "lora=none"}}, "sweep.only_if.seed: asks for lora"),
        ([], {"space": {"seed": "choice(1,2)"}, "only_if": {"seed": "whenever"}}, "not a condition"),
        (["lora=none,dim8", "sft.epochs=1,2"], {"only_if": {"sft.epoch": "lora=none"}}, "did you mean `sft.epochs`"),
        (
            ["seed=1,2"],
            {"brings": {"lroa!=none": ["seed=1"]}},
            "brings.lroa!=none: there is no key `lroa`; did you mean `lora`",
        ),
        (["lora=none,dim8"], {"brings": {"lora=dim8": ["sft.lerning_rate=1"]}}, "did you mean `sft.learning_rate`"),
        (
            ["lora=none,dim8", "sft.epochs=1,2"],
            {"only_if": {"sft.epochs": "lora=dimm8"}},
            "sweep.only_if.sft.epochs=lora=dimm8: lora is never dimm8; did you mean `dim8`",
        ),
        (["lora=none,dim8"], {"brings": {"lora=dim9": ["seed=1"]}}, "sweep.brings.lora=dim9: lora is never dim9"),
        (
            [],
            {"space": {"lora": "none,dim8", "seed": "1,2"}, "only_if": {"seed": "lora=dim64"}},
            "lora is never dim64; did you mean `dim8`",
        ),
        (["zero=2", "seed=1,2"], {"only_if": {"seed": "zero=4"}}, "zero is never 4; choose from none, 0, 1, 2, 3"),
        (["sft.batch_size=8,16"], {"brings": {"sft.batch_size=big": ["seed=1"]}}, "is never big; write a number"),
        (["fp32_loss=true"], {"brings": {"fp32_loss!=yes": ["seed=1"]}}, "fp32_loss is never yes; choose from true, false"),
        (["lora=none,dim8"], {"brings": {"lora==dim8": ["seed=1"]}}, "not a condition"),
    ],
)
def test_what_is_no_space_is_said(space: Callable[..., Space], arguments: list[str], sweep: dict[str, Any], said: str) -> None:
    with pytest.raises(Fault, match=said):
        space(*arguments, **sweep)


def test_a_name_that_is_only_not_swept_is_no_mistake(space: Callable[..., Space]) -> None:
    written = {"lora": "choice(none,dim8)", "sft.epochs": "choice(1,2)"}
    brings = {
        "hardware=h200": ["zero=3"],
        "lora=dim8": ["data.sources.mine.columns.prompt=question", "+source@data.sources.b=hh"],
    }
    found = space("sft.epochs=3", space=written, only_if={"sft.epochs": "lora=none"}, brings=brings)
    assert [each.key for each in found.dimensions] == ["lora"]
    assert found.overrides({"lora": "none"}) == ["sft.epochs=3", "lora=none"]


@pytest.mark.parametrize("value", [1, 1.5, 1e-05, True, None, "none", "a b", "1", "true", "it's", "x=y,z", "[1,2]"])
def test_an_override_composes_to_its_value(space: Callable[..., Space], value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = space("seed=1,2").dimensions[0].override(value)
    parsed = OverridesParser.create().parse_override(found).value()
    assert parsed == ([1, 2] if value == "[1,2]" else value) and type(parsed) is type(parsed if value == "[1,2]" else value)


def test_corners_are_legal_points_at_the_ends(space: Callable[..., Space]) -> None:
    found = space("lora=none,dim8", "sft.learning_rate=interval(0.5,2)")
    assert [*found.corners()][:2] == [
        {"lora": "none", "sft.learning_rate": 0.5},
        {"lora": "dim8", "sft.learning_rate": 2.0},
    ]


def test_a_condition_reads_back_as_it_was_written() -> None:
    assert str(Condition.parse("here", " zero = 2,3 ")) == "zero=2,3"
    assert not Condition.parse("here", "zero!=2").holds({})  # a dimension that does not exist has no value at all
    assert text(None) == "null" and text(True) == "true"


def test_the_shipped_spaces_are_in_the_wheel_and_say_how_to_start() -> None:
    for file in sorted(Path(CONF / "sweep").glob("*.yaml")):
        head = file.read_text().split("defaults:")[0]
        assert f"sweep={file.stem}" in head, file.name
        assert all((CONF / "data" / f"{name}.yaml").is_file() for name in re.findall(r" data=(\w+)", head)), file.name


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "sweep").glob("*.yaml")))
def test_a_shipped_study_begins_with_a_legal_cell(name: str) -> None:
    config.register()
    words = [f"sweep={name}", "debug=smoke"]
    assert preflight.check(words, multirun=True).faults == []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        space = Space.of(words, preflight.sweep_config(words))
        first = next(iter(space.points() if space.is_finite else space.corners()))
        assert isinstance(Composer(space).cell(first), Cell)


def test_null_in_a_choice_is_named() -> None:
    (fault,) = preflight.check(["stage=ppo", "ppo.ema_decay=choice(null,0.9)"], multirun=True).faults
    assert fault.endswith("Hydra's choice() takes no null; write ppo.ema_decay=null,0.9")
