"""AdamW, also in 8 bits (Dettmers et al. 2022), and its learning rate.

The rate is a function of the step, so there is no scheduler state to save.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from rlhf.config import Optimizer, OptimizerConfig, Schedule
from rlhf.low_bit import bitsandbytes


@dataclass(frozen=True)
class OptimizerSpec:
    """How one module is trained; the names are those of the configuration."""

    learning_rate: float
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_eps: float
    schedule: Schedule
    schedule_power: float
    schedule_cycles: int
    warmup_steps: int
    final_lr_fraction: float
    max_grad_norm: float
    optimizer: Optimizer
    steps: int
    """Optimizer steps of the whole run."""

    @classmethod
    def of(cls, config: OptimizerConfig, learning_rate: float, steps: int) -> "OptimizerSpec":
        """The optimizer a stage's configuration asks for, with this peak learning rate over this many steps."""
        return cls(
            learning_rate=learning_rate,
            weight_decay=config.weight_decay,
            adam_beta1=config.adam_beta1,
            adam_beta2=config.adam_beta2,
            adam_eps=config.adam_eps,
            schedule=config.schedule,
            schedule_power=config.schedule_power,
            schedule_cycles=config.schedule_cycles,
            warmup_steps=config.warmup_steps,
            final_lr_fraction=config.final_lr_fraction,
            max_grad_norm=config.max_grad_norm,
            optimizer=config.optimizer,
            steps=steps,
        )

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of optimizer step ``step`` (0 is the first)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        span = max(1, self.steps - self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / span)
        match self.schedule:
            case Schedule.constant:
                left = 1.0
            case Schedule.linear:
                left = 1.0 - progress
            case Schedule.cosine:
                left = 0.5 * (1.0 + math.cos(math.pi * progress))
            case Schedule.polynomial:
                left = (1.0 - progress) ** self.schedule_power
            case Schedule.cosine_restarts:
                within = progress * self.schedule_cycles % 1.0 if progress < 1.0 else 1.0
                left = 0.5 * (1.0 + math.cos(math.pi * within))
        return self.learning_rate * (self.final_lr_fraction + (1.0 - self.final_lr_fraction) * left)


def optimizer_of(module: nn.Module, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """AdamW over the module's trainable parameters; weight decay touches matrices only.

    Raises:
        Fault: its 8-bit form is wanted, and bitsandbytes is not installed.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trainable if parameter.ndim >= 2], "weight_decay": spec.weight_decay},
        {"params": [parameter for parameter in trainable if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (spec.adam_beta1, spec.adam_beta2)
    filled = [group for group in groups if group["params"]]
    if spec.optimizer is Optimizer.adamw_8bit:
        adamw_8bit: torch.optim.Optimizer = bitsandbytes("optimizer=adamw_8bit").optim.AdamW8bit(
            filled, lr=0.0, betas=betas, eps=spec.adam_eps
        )
        return adamw_8bit
    return torch.optim.AdamW(filled, lr=0.0, betas=betas, eps=spec.adam_eps)
