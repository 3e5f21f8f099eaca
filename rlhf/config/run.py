"""One run, with all that can be set."""

from dataclasses import dataclass

from rlhf.config.around import (
    ChatConfig,
    DeepSpeedConfig,
    EvaluationConfig,
    HardwareConfig,
    ParentsConfig,
    PathsConfig,
    TrackerConfig,
)
from rlhf.config.choices import Device, Offload, Precision, Zero
from rlhf.config.data import DataConfig
from rlhf.config.declare import result, system
from rlhf.config.model import LoraConfig, ModelConfig
from rlhf.config.offline import DPOConfig, KTOConfig, PretrainConfig, RMConfig, SFTConfig
from rlhf.config.online import BestOfNConfig, EarlyStopConfig, GRPOConfig, PPOConfig, RewardConfig, RLOOConfig, RolloutConfig
from rlhf.config.sweep import SweepConfig


@dataclass
class Run:
    """One run: a stage with all it needs. Composed by Hydra, checked, and never written to."""

    stage: str = result()
    """What to produce: `pretrain`, `sft`, `rm`, `ppo`, `dpo`, `kto`, `rloo`, `grpo` or `best_of_n`. Missing parents are trained first."""
    seed: int = result(at_least=0, at_most=2**32 - 1)
    """Seed of initial weights, data order and sampling."""
    precision: Precision = result()
    """Number format of the forward and backward pass; weights and optimizer stay in fp32. `fp16` needs a GPU and scales losses dynamically."""
    fp32_loss: bool = result()
    """Under bf16 and fp16, work out log-probabilities and entropies of tokens in fp32; false: in the low format, with half the memory of logits and coarser numbers. What follows from them is always in fp32."""
    deterministic: bool = system()
    """Choose kernels that give the same bits from the same inputs, and warn where there is none."""
    device: Device = system()
    """`auto`: a GPU if there is one."""
    ranks: int = system(at_least=1)
    """Processes that share the work."""
    zero: Zero = system()
    """ZeRO stage of DeepSpeed; `none`: plain torch on one device."""
    offload: Offload = system()
    """What DeepSpeed keeps in CPU memory or on NVMe instead of the GPU."""
    deepspeed: DeepSpeedConfig = system()
    """DeepSpeed's buffers."""
    fresh: bool = system()
    """Run again even if a finished or half-done run with the same signature is there."""
    model: ModelConfig = result()
    """The policy."""
    reward_model: ModelConfig = result()
    """The trunk of the reward model and of the critic."""
    data: DataConfig = result()
    """Training and evaluation data."""
    lora: LoraConfig = result()
    """Adapters on the policy."""
    reward_lora: LoraConfig = result()
    """Adapters on the reward model and on the critic; their head is always trained whole."""
    pretrain: PretrainConfig = result()
    """Pretraining on text."""
    sft: SFTConfig = result()
    """Supervised fine-tuning."""
    rm: RMConfig = result()
    """Reward model training."""
    ppo: PPOConfig = result()
    """PPO."""
    dpo: DPOConfig = result()
    """DPO and its relatives."""
    kto: KTOConfig = result()
    """KTO."""
    rloo: RLOOConfig = result()
    """RLOO."""
    grpo: GRPOConfig = result()
    """GRPO and its relatives."""
    best_of_n: BestOfNConfig = result()
    """Best of n."""
    early_stop: EarlyStopConfig = result()
    """An end before the time."""
    reward: RewardConfig = result()
    """Where the score of `ppo`, `rloo`, `grpo` and `best_of_n` comes from."""
    rollout: RolloutConfig = result()
    """Sampling of responses, in training and in evaluations."""
    evaluation: EvaluationConfig = result()
    """Held-out measurements."""
    hardware: HardwareConfig = system()
    """The device's memory and price."""
    tracker: TrackerConfig = system()
    """Weights & Biases."""
    paths: PathsConfig = system()
    """Folders."""
    parents: ParentsConfig = system()
    """Models to start from."""
    sweep: SweepConfig = system()
    """Studies."""
    chat: ChatConfig = system()
    """Conversations in the terminal."""


STAGES = ("pretrain", "sft", "rm", "ppo", "dpo", "kto", "rloo", "grpo", "best_of_n")
"""Options of the `stage` group; each after those it builds on."""

PARTS = ("pretrain", "sft", "rm", "ppo")
"""What data is dealt out to: documents, demonstrations, comparisons and prompts, named after the first stage that learns from them."""

COMPANIONS = ("reward_model", "data", *STAGES, "rollout", "evaluation")
"""Groups whose default is `auto`: the model's usual option, else `default`."""
