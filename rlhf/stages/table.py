"""This table says which name runs which algorithm."""

from typing import Any

from rlhf.stages.best_of_n import BestOfN
from rlhf.stages.dpo import DPO
from rlhf.stages.grpo import GRPO
from rlhf.stages.interface import Stage
from rlhf.stages.kto import KTO
from rlhf.stages.ppo import PPO
from rlhf.stages.pretrain import Pretrain
from rlhf.stages.rloo import RLOO
from rlhf.stages.rm import RewardModel
from rlhf.stages.sft import SFT

TABLE: dict[str, type[Stage[Any]]] = {
    "pretrain": Pretrain,
    "sft": SFT,
    "rm": RewardModel,
    "ppo": PPO,
    "dpo": DPO,
    "kto": KTO,
    "rloo": RLOO,
    "grpo": GRPO,
    "best_of_n": BestOfN,
}
