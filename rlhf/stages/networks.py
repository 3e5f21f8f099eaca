"""The networks of PPO, and what each of them says of sampled responses."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.config import CriticInit, RewardKind
from rlhf.fault import Fault
from rlhf.models.adapters import add_adapters, without_adapters
from rlhf.models.forward import recompute_activations, token_logprobs, token_scores
from rlhf.models.load import load_policy, load_scorer
from rlhf.models.tokenizer import load_tokenizer, same_tokens
from rlhf.rewards.interface import Reward
from rlhf.rewards.model import reads_policy
from rlhf.rewards.scale import Scale
from rlhf.rewards.text import text_reward
from rlhf.rollout.sample import left_pad
from rlhf.stages.batches import Sequences, Tokens
from rlhf.stages.interface import Setting


class Padded(Protocol):
    """Sequences, or a rollout."""

    @property
    def ids(self) -> Tensor:
        """[B, T] int64."""
        ...

    @property
    def mask(self) -> Tensor:
        """[B, T] bool, true on real tokens."""
        ...

    @property
    def targets(self) -> Tensor:
        """[B, T] bool, true on the tokens that are asked about."""
        ...


class Networks:
    """A policy and a critic that learn, the frozen policy they are measured against, and a reward."""

    reward: Reward

    def __init__(self, setting: Setting) -> None:
        run, engine = setting.run, setting.engine
        start = self._start = setting.parents[run.ppo.init.name]
        self._run, self._engine = run, engine
        self.tokenizer = load_tokenizer(run.model, (), start)
        self.policy = load_policy(run.model, self.tokenizer, start, run.seed)
        self._copy = None if run.lora.dim else copy.deepcopy(self.policy)
        self.notes: list[str] = []
        self.reward, self.critic, self.critic_speaks_scores = self._judges(setting)
        self.critic_scale = Scale()
        """On which the critic's head speaks; for one that began as the reward model, that of the scores."""
        add_adapters(self.policy, run.lora, "lora", run.seed)
        add_adapters(self.critic, run.reward_lora, "reward_lora", run.seed, keep=["score"])
        for trained in (self.policy, self.critic):
            engine.place(trained)
            trained.eval()  # no dropout anywhere: the ratio compares two passes of the same function
        if self._copy is not None:
            engine.freeze(self._copy, run.ppo.reference_device)
        if run.ppo.gradient_checkpointing:
            for network in (self.policy, self.critic):
                recompute_activations(network)
                network.train()  # transformers recomputes in training mode only; `checks` sees to it that dropout is 0

    def _judges(self, setting: Setting) -> tuple[Reward, PreTrainedModel, bool]:
        """The reward, the critic as it starts, and whether the critic's head speaks raw scores."""
        run, size = self._run, self._run.ppo.micro_batch_size
        reward: Reward
        critic: PreTrainedModel | None = None
        if run.reward.kind is RewardKind.model:
            reader = load_tokenizer(run.reward_model, (), setting.parents["rm"])
            alike = same_tokens(self.tokenizer, reader)
            scorer = load_scorer(run.reward_model, reader, setting.parents["rm"], run.seed, fresh_head=False)
            if not alike:
                self._note_other_tokens()
            elif run.ppo.critic_init is not CriticInit.sft:
                critic = copy.deepcopy(scorer)
            self._engine.freeze(scorer, run.ppo.reward_device)
            reward = reads_policy(scorer, reader, self.tokenizer, run.rollout.max_prompt_tokens, self._engine, size)
        else:
            reward = text_reward(run.reward, self._engine, size)
        if critic is not None:
            return reward, critic, True
        return reward, load_scorer(run.model, self.tokenizer, self._start, run.seed, fresh_head=True), False

    def _note_other_tokens(self) -> None:
        """Say what follows from a reward model with a tokenizer of its own.

        Raises:
            Fault: the critic was to start from it.
        """
        if self._run.ppo.critic_init is CriticInit.reward_model:
            raise Fault(
                "ppo.critic_init=reward_model: it reads other tokens than the policy writes, and a critic values the policy's; "
                "use ppo.critic_init=auto, or a reward model of the policy's family"
            )
        self.notes.append("the reward model has a tokenizer of its own: it reads text, and the critic starts as the SFT policy")

    def pad(self, rows: Sequence[Tokens]) -> Sequences:
        """Prompts padded on the left and responses, the targets, on the right."""
        pad, device = self.tokenizer.pad_token_id, self._engine.device
        prompts, prompt_mask = left_pad([prompt for prompt, _ in rows], pad, device)
        reversed_ids, reversed_mask = left_pad([response[::-1] for _, response in rows], pad, device)
        responses, response_mask = reversed_ids.flip(1), reversed_mask.flip(1)
        targets = torch.cat([torch.zeros_like(prompt_mask), response_mask], 1)
        return Sequences(torch.cat([prompts, responses], 1), torch.cat([prompt_mask, response_mask], 1), targets)

    def logprobs(self, batch: Padded) -> tuple[Tensor, Tensor]:
        """The policy's log-probability of each target, and the entropy of its distribution there; [B, T], 0 elsewhere."""
        return self._logprobs(self.policy, batch)

    @contextmanager
    def reference(self) -> Iterator[PreTrainedModel]:
        """The policy as it started: a frozen copy of it, or, where adapters are trained, the policy with its adapters off."""
        if self._copy is not None:
            yield self._copy
        else:
            with without_adapters(self.policy):
                yield self.policy

    def reference_logprobs(self, batch: Padded) -> Tensor:
        """The reference's log-probability of each target; [B, T], 0 elsewhere."""
        with self.reference() as reference:
            return self._logprobs(reference, batch)[0]

    def _logprobs(self, policy: PreTrainedModel, batch: Padded) -> tuple[Tensor, Tensor]:
        settings = (self._run.rollout.temperature, self._run.ppo.entropy_coef != 0, self._run.fp32_loss)
        return self._engine.forward(token_logprobs, policy, batch.ids, batch.mask, batch.targets, *settings)

    def values(self, batch: Padded) -> Tensor:
        """The critic's value before each target, at that token's place; [B, T], 0 elsewhere."""
        scores = self._engine.forward(token_scores, self.critic, batch.ids, batch.mask)
        return self.critic_scale(scores).roll(1, dims=1).masked_fill(~batch.targets, 0.0)
