"""Which cell needs more memory, where that is certain."""

from sweeps.memory import Demand, from_least

CELL = {
    **{"stage": "sft", "ranks": 2, "zero": 2, "offload": "none", "lora.dim": 0, "precision": "fp32", "model.name": "tiny"},
    **{"sft.micro_batch_size": 4, "sft.gradient_checkpointing": False, "sft.learning_rate": 0.1, "rm.micro_batch_size": 4},
}


def demand(**changes: object) -> Demand:
    return Demand.of({**CELL, **{key.replace("__", "."): value for key, value in changes.items()}})


def test_more_of_anything_covers_less_of_it() -> None:
    plain = demand()
    for less in (
        *(demand(zero=3), demand(offload="optimizer"), demand(lora__dim=64), demand(precision="bf16")),
        *(demand(sft__micro_batch_size=2), demand(sft__gradient_checkpointing=True), demand(ranks=4)),
    ):
        assert plain.covers(less) and not less.covers(plain), less
    assert demand(lora__dim=64).covers(demand(lora__dim=8))


def test_what_does_not_touch_memory_is_passed_over() -> None:
    assert demand(sft__learning_rate=1e-5).covers(demand()) and demand().covers(demand(sft__learning_rate=1e-5))


def test_nothing_is_said_where_two_settings_pull_apart_or_one_is_not_understood() -> None:
    mixed, other = demand(zero=3, sft__micro_batch_size=8), demand()
    assert not mixed.covers(other) and not other.covers(mixed)
    for unknown in (demand(model__name="opt1.3b"), demand(rm__micro_batch_size=1)):
        assert not unknown.covers(other) and not other.covers(unknown)


def test_longer_rows_need_more_unless_texts_share_them() -> None:
    assert demand(sft__max_length=512).covers(demand(sft__max_length=256))
    longer, shorter = demand(sft__max_length=512, sft__packing=True), demand(sft__max_length=256, sft__packing=True)
    assert not longer.covers(shorter) and not shorter.covers(longer)
    assert not demand(sft__packing=True).covers(demand(sft__packing=False))


def test_zero_says_nothing_on_one_rank() -> None:
    one = {"ranks": 1}
    assert not demand(**one).covers(demand(zero=3, **one)) and not demand(zero=3, **one).covers(demand(**one))


def test_the_order_begins_with_the_least() -> None:
    cells = [demand(zero=2), demand(zero=3), demand(zero=2, sft__micro_batch_size=8), demand(zero=3, offload="all")]
    assert from_least(cells) == [3, 1, 0, 2]
