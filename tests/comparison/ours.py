"""Our stages on given networks and tensors: their own ``loss``, with nothing around it."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rlhf.config import Device, Precision, Run
from rlhf.engine.torch_engine import TorchEngine
from rlhf.metrics import Mean
from rlhf.rewards.model import set_pooling
from rlhf.rewards.scale import Scale
from rlhf.stages.batches import Comparisons, Ranked, Sequences, Tokens
from rlhf.stages.dpo import DPO
from rlhf.stages.kto import KTO
from rlhf.stages.labelled import Answer
from rlhf.stages.online import Online
from rlhf.stages.policies import Policies
from rlhf.stages.ppo import PPO
from rlhf.stages.rm import RewardModel
from rlhf.stages.sft import SFT
from tests.comparison.inputs import EOS, MARGINS, PAD, Rollout, labelled_answers, pairs, policy, scorer

CPU = torch.device("cpu")
TOKENIZER = SimpleNamespace(pad_token_id=PAD, bos_token_id=1, eos_token_id=EOS, decode=lambda *_, **__: "")


def bare(kind: type, run: Run, **parts: object) -> Any:
    """A stage with nothing but what its loss reads."""
    stage = object.__new__(kind)
    engine = TorchEngine(Device.cpu, Precision.fp32, deterministic=True)
    stage._run, stage._config = run, getattr(run, run.stage)
    stage._setting, stage._tokenizer = SimpleNamespace(engine=engine, run=run), TOKENIZER
    vars(stage).update(parts)
    return stage


def measured(network: torch.nn.Module, losses: dict[str, Tensor], weight: float) -> dict[str, float]:
    """The loss, divided as the loop does, and the norm of its gradient."""
    loss = sum(losses.values()) / weight
    loss.backward()
    norm = torch.stack([each.grad.norm() for each in network.parameters() if each.grad is not None]).norm()
    return {"loss": loss.item(), "gradient norm": norm.item()}


def sft(run: Run) -> dict[str, float]:
    """Stage `sft` on the better answers."""
    network = policy()
    stage = bare(SFT, run, _policy=network)
    whole = run.sft.targets.name == "all"
    rows = [((prompt, better), ((1, len(prompt)),) * whole) for prompt, better, _ in pairs()]
    batch = Sequences.demonstrated(rows, PAD, CPU)
    losses, metrics = stage.loss(batch)
    return measured(network, losses, batch.weight) | {"entropy": metrics["policy/entropy"].value}


def comparisons() -> list[Ranked]:
    """The pairs as ranked lists of two."""
    return [
        Ranked(((prompt, better), (prompt, worse)), margin)
        for (prompt, better, worse), margin in zip(pairs(), MARGINS, strict=True)
    ]


def rm(run: Run) -> dict[str, float]:
    """Stage `rm` on the pairs."""
    network = scorer()
    set_pooling(network, run.rm.pooling)
    batch = Comparisons(comparisons(), PAD, CPU)
    losses, metrics = bare(RewardModel, run, _scorer=network).loss(batch)
    told = {"accuracy": metrics["rewards/accuracies"].value, "margin": metrics["rewards/margins"].value}
    return measured(network, losses, batch.weight) | told


def dpo(run: Run) -> dict[str, float]:
    """Stage `dpo` on the pairs, against the other policy as its reference."""
    stage = bare(DPO, run)
    policies = object.__new__(Policies)
    policies._engine, policies._settings = stage._setting.engine, (1.0, False, True)
    policies.policy, policies._copy = policy(), policy("reference")
    stage._policies = policies
    batch = stage._batch(comparisons())
    losses, metrics = stage.loss(batch)
    names = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected")
    return measured(policies.policy, losses, batch.weight) | {name: metrics[name].value for name in names}


def kto(run: Run) -> dict[str, float]:
    """Stage `kto` on the pairs taken apart; the other policy learns."""
    stage = bare(KTO, run)
    policies = object.__new__(Policies)
    policies._engine, policies._settings = stage._setting.engine, (1.0, False, True)
    policies.policy, policies._copy = policy("reference"), policy()
    stage._policies = policies
    rows = [Answer((prompt, answer), good) for prompt, answer, good in labelled_answers()]
    batch = stage._batch(rows, stage.reference_point([row.tokens for row in rows], 3))
    losses, metrics = stage.loss(batch)
    names = ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected")
    told = {name: metrics[name].value for name in names} | {"entropy": metrics["policy/entropy"].value, "kl": batch.point}
    return measured(policies.policy, losses, batch.weight) | told


def bare_ppo(run: Run, said: Any) -> Any:
    """Stage `ppo` whose policies, critic and reward are all ``said``; scores are raw."""
    stage = bare(PPO, run, _policies=said, _networks=said, _moved=Mean(0.0, 0), _kl_coef=run.ppo.kl_coef)
    stage._online = object.__new__(Online)
    stage._online._policies, stage._online._reward = said, said
    stage._online.start_scores, stage._online.scale = None, Scale()
    stage._online._setting, stage._online._run, stage._online._config = stage._setting, run, run.ppo
    return stage


class Said:
    """What policy, reference, critic and reward say of a rollout: first as it was sampled, then with tensors that learn."""

    tokenizer = TOKENIZER

    def __init__(self, given: Rollout) -> None:
        self.given, self._logits, self._values = given, given.old_logits, given.old_values
        self.logits, self.learnt_values = given.logits.clone().requires_grad_(), given.values.clone().requires_grad_()

    def move(self) -> None:
        """From the networks that sampled to those that learn."""
        self._logits, self._values = self.logits, self.learnt_values

    def logprobs(self, batch: Any) -> tuple[Tensor, Tensor]:
        distribution = (self._logits / self.given.temperature).log_softmax(-1)
        entropies = -(distribution.exp() * distribution).sum(-1).detach()
        return self._placed(self.given.logprobs(self._logits), batch), self._placed(entropies, batch)

    def reference_logprobs(self, batch: Any) -> Tensor:
        return self._placed(self.given.logprobs(self.given.reference_logits), batch)

    def values(self, batch: Any) -> Tensor:
        return self._placed(self._values, batch)

    def score(self, *_: object) -> Tensor:
        return self.given.scores.clone()

    def pad(self, rows: list[Tokens]) -> Sequences:
        policies = object.__new__(Policies)
        policies.tokenizer, policies._engine = TOKENIZER, SimpleNamespace(device=CPU)
        return policies.pad(rows)

    def _placed(self, of_responses: Tensor, batch: Any) -> Tensor:
        wide = torch.cat([torch.zeros(len(of_responses), self.given.prompt), of_responses], 1)
        return wide.masked_fill(~batch.targets, 0.0)


def ppo(run: Run, given: Rollout, value_weight: float) -> dict[str, Any]:
    """Stage `ppo` on the rollout: metrics, advantages, and gradients of policy loss + ``value_weight`` x critic loss."""
    said, rows = Said(given), list(zip(given.prompts, given.responses, strict=True))
    stage = bare_ppo(run, said)
    rollout = stage.score_rollout([None] * len(rows), rows)
    said.move()
    minibatch = rollout.select(torch.arange(len(rows))).with_value_scale()
    losses, metrics = stage.loss(minibatch)
    ((losses["policy"] + value_weight * losses["critic"]) / minibatch.weight).backward()
    taken = said.logits.grad.gather(-1, given.ids[..., None]).squeeze(-1)
    told = {name: metric.value for name, metric in (*rollout.metrics.items(), *metrics.items())}
    advantages = rollout.advantages[:, given.prompt :]
    return told | {"advantages": advantages, "logit gradients": taken, "value gradients": said.learnt_values.grad}
