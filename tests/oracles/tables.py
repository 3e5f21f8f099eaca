"""PPO without networks: policy and critic are tables, and all else is what the stages use."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rlhf import loop
from rlhf.algorithms.losses import ppo_policy_loss, value_loss
from rlhf.config import Device, Precision
from rlhf.engine.base import Trainable
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.engine.torch_engine import TorchEngine
from rlhf.metrics import Metrics
from rlhf.selection import Selection
from rlhf.stages.interface import Evaluation
from tests.silent import Silent


class Table(nn.Module):
    """Rows of numbers."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows.float())


@dataclass(frozen=True)
class Taken:
    """B responses of up to T actions; all tensors are [B, T]."""

    places: Tensor  # the row of the tables each action was taken in
    actions: Tensor
    mask: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def weight(self) -> float:
        return self.mask.sum().item()

    def select(self, rows: Tensor) -> "Taken":
        names = ("places", "actions", "mask", "logprobs", "values", "advantages", "returns")
        return Taken(*(getattr(self, name)[rows] for name in names))

    def split(self, size: int) -> list["Taken"]:
        return [self.select(rows) for rows in torch.arange(len(self.places)).split(size)]


class Tabular:
    """What is alike in PPO on tables, in the shape of a stage."""

    eval_every, save_every = 0, 0
    rounds_per_epoch, eval_every_epoch = None, False

    def __init__(self, logits: Tensor, steps: int) -> None:
        """``logits`` [places, actions] to start with; the critic values each place at each of ``steps`` steps."""
        self.policy, self.critic = Table(logits), Table(torch.zeros(len(logits), steps))

    def logprobs(self, places: Tensor, actions: Tensor) -> Tensor:
        return self.policy.rows.log_softmax(-1)[places, actions]

    def values(self, places: Tensor) -> Tensor:
        return self.critic.rows[places, torch.arange(places.shape[1])]

    def loss(self, batch: Taken) -> tuple[dict[str, Tensor], Metrics]:
        logprobs, values = self.logprobs(batch.places, batch.actions), self.values(batch.places)
        policy_loss = ppo_policy_loss(logprobs, batch.logprobs, batch.advantages, batch.mask, clip_range=0.2)
        critic_loss = value_loss(values, batch.values, batch.returns, batch.mask, clip_range=0.5)
        return {"policy": policy_loss, "critic": critic_loss}, Metrics()

    def evaluate(self, round_: int) -> Evaluation:
        return Evaluation(Metrics())


def train(stage: Tabular, spec: OptimizerSpec, selection: Selection | None = None) -> None:
    """All of the stage's rounds, or as many as ``selection`` wants to see."""
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=False)
    engine.prepare({"policy": Trainable(stage.policy, spec), "critic": Trainable(stage.critic, spec)})
    loop.train(stage, engine, Silent(), seed=0, selection=selection)  # type: ignore[arg-type]  # it has no parents, artifact or configuration
