"""The optimizer, whose keys every stage has."""

from dataclasses import dataclass

from rlhf.config.choices import Optimizer, Schedule
from rlhf.config.declare import result, system


@dataclass
class OptimizerConfig:
    """How weights are trained from their gradients."""

    learning_rate: float = result(above=0)
    """Peak learning rate of AdamW (Loshchilov and Hutter 2019); of the policy's, where a critic has its own."""
    optimizer: Optimizer = result()
    """`adamw_8bit` keeps the moments in 8 bits (Dettmers et al. 2022) through bitsandbytes: 2 bytes a weight instead of 8; `zero=none` only."""
    weight_decay: float = result(at_least=0)
    """Decoupled weight decay, on matrices only (not on biases and norms)."""
    adam_beta1: float = result(at_least=0, below=1)
    """Decay of AdamW's first moment."""
    adam_beta2: float = result(at_least=0, below=1)
    """Decay of AdamW's second moment."""
    adam_eps: float = result(above=0)
    """Added to the root of the second moment."""
    schedule: Schedule = result()
    """Shape of the learning rate after warm-up."""
    schedule_power: float = result(above=0)
    """Of `schedule=polynomial`: 1 is linear, 2 falls faster at first."""
    schedule_cycles: int = result(at_least=1)
    """Of `schedule=cosine_restarts`: how often the rate falls from its peak."""
    warmup_steps: int = result(at_least=0)
    """Optimizer steps over which the learning rate rises from 0."""
    final_lr_fraction: float = result(at_least=0, at_most=1)
    """Share of `learning_rate` left at the last step (linear and cosine)."""
    max_grad_norm: float = result(above=0, infinite=True)
    """The gradient of each network is scaled down to this global L2 norm."""
    gradient_checkpointing: bool = system()
    """Recompute activations in the backward pass: less memory, about a third more time."""
