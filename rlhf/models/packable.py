"""Which networks can be told what of a row is a text of its own, for ``sft.packing``. Torch-free, as ``checks``."""

from rlhf.config import Family

PACKABLE = tuple(name for name in Family.__members__ if name != Family.bloom.name)
"""Families that take positions and a mask [R, 1, W, W]; BLOOM works its biases out of a mask of whole rows."""


def fault(model: str, family: str, max_length: int, window: int | None = None) -> str | None:
    """What speaks against packing for a network of this ``family``; None: nothing.

    Args:
        family: as transformers calls it (`model_type`).
        window: how many tokens back its attention goes; None: to the first.
    """
    if family not in PACKABLE:
        return (
            f"sft.packing=true: model={model} is a {family}, and only {', '.join(PACKABLE)} are known to keep texts of a row "
            "apart; use sft.packing=false"
        )
    if window is not None and window < max_length:
        return (
            f"sft.packing=true: model={model} sees {window} tokens back, fewer than sft.max_length={max_length}; "
            f"use sft.packing=false, or sft.max_length={window}"
        )
    return None
