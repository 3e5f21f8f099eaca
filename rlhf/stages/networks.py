"""The networks of PPO: policy and reference, a critic, and a reward."""

from torch import Tensor
from transformers import PreTrainedModel

from rlhf.config import CriticInit, RewardKind
from rlhf.fault import Fault
from rlhf.models.adapters import add_adapters, unadapted
from rlhf.models.forward import token_scores
from rlhf.models.load import load_scorer
from rlhf.models.tokenizer import load_tokenizer, same_tokens
from rlhf.rewards.scale import Scale
from rlhf.stages.interface import Network, Setting
from rlhf.stages.online import load_reward
from rlhf.stages.policies import Padded, Policies, recompute


class Networks:
    """A policy and a critic that learn, the frozen policy they are measured against, and a reward."""

    def __init__(self, setting: Setting) -> None:
        run, engine = setting.run, setting.engine
        start = self._start = setting.parents[run.ppo.init.name]
        self._run, self._engine = run, engine
        self.tokenizer = load_tokenizer(run.model, (), start)
        entropies = run.ppo.entropy_coef != 0
        self.policies = Policies(setting, self.tokenizer, start, run.ppo.reference_device, run.rollout.temperature, entropies)
        self.notes: list[str] = []
        self.reward = load_reward(setting, run.ppo, self.policies)
        self.critic, self.critic_speaks_scores = self._load_critic(setting)
        self.critic_scale = Scale()
        """On which the critic's head speaks; for one that began as the reward model, that of the scores."""
        add_adapters(self.critic, run.reward_lora, "reward_lora", run.seed, keep=["score"])
        engine.place(self.critic)
        self.critic.eval()  # no dropout here either
        if run.ppo.gradient_checkpointing:
            recompute(self.policies.policy, self.critic)

    def _load_critic(self, setting: Setting) -> tuple[PreTrainedModel, bool]:
        """The critic as it starts, and whether its head speaks raw scores."""
        run, captured = self._run, setting.captured
        if captured is not None:
            slot = run.reward_model if captured.critic_speaks_scores else run.model
            critic = load_scorer(slot, self.tokenizer, setting.parents["critic"], run.seed, fresh_head=False)
            return critic, captured.critic_speaks_scores
        if run.reward.kind is RewardKind.model:
            place = setting.parents["rm"]
            reader = load_tokenizer(run.reward_model, (), place)
            if not same_tokens(self.tokenizer, reader):
                self._note_other_tokens()
            elif run.ppo.critic_init is not CriticInit.sft:
                return load_scorer(run.reward_model, reader, place, run.seed, fresh_head=False), True
        return load_scorer(run.model, self.tokenizer, self._start, run.seed, fresh_head=True), False

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

    def whole(self) -> dict[str, Network]:
        """The policy as it started and the critic, both without adapters. Every rank must call it."""
        critic = unadapted(self.critic, self._engine.weights(self.critic))
        return {self._run.ppo.init.name: self.policies.start(), "critic": (self.critic, critic)}

    def values(self, batch: Padded) -> Tensor:
        """The critic's value before each target, at that token's place; [B, T], 0 elsewhere."""
        scores = self._engine.forward(token_scores, self.critic, batch.ids, batch.mask)
        return self.critic_scale(scores).roll(1, dims=1).masked_fill(~batch.targets, 0.0)
