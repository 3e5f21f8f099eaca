"""How much of what the network reads in SFT is padding, without and with `sft.packing`: a count over all steps, no training.

python benchmarks/padding.py model=tiny [key=value ...]
"""

import itertools
import math
import sys

from omegaconf import OmegaConf

from rlhf.config import Run
from rlhf.engine.torch_engine import TorchEngine
from rlhf.explain.answer import compose
from rlhf.invariants.updates import build
from rlhf.models.packing import Packing


def main(overrides: list[str]) -> None:
    """Print the columns that are read, and the share of padding among them."""
    composed = compose(["stage=sft", "device=cpu", *overrides])
    if isinstance(composed, list):
        sys.exit("\n".join(composed))
    run = OmegaConf.to_object(composed)
    assert isinstance(run, Run)
    stage = build(run, TorchEngine(run.device, run.precision, run.deterministic), {})
    tokens, padded, packed = 0, 0, 0
    for (batch,) in itertools.islice(stage.batches(0), stage.rounds):
        for part in batch.split(stage.micro_batch_size):
            tokens += int(part.mask.sum())
            padded += part.mask.numel()
            packed += math.prod(Packing.of(part.mask, run.sft.max_length).shape)
    print(f"{stage.rounds} steps of {run.sft.batch_size}, {stage.micro_batch_size} at once: {tokens:,} tokens")
    for what, read in (("sft.packing=false", padded), ("sft.packing=true", packed)):
        print(f"{what}: {read:,} columns, {1 - tokens / read:.1%} of them padding")


if __name__ == "__main__":
    main(sys.argv[1:])
