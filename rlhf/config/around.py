"""What is around the training: measurements, devices, trackers, folders, parents, a conversation."""

from dataclasses import dataclass
from typing import Optional

from rlhf.config.choices import MissingParents, TrackerArtifacts, TrackerKind
from rlhf.config.declare import place, system


@dataclass
class EvaluationConfig:
    """What is measured before the first and after the last step, and in between with `eval_every`."""

    prompts: int = system(at_least=1)
    """Held-out prompts that PPO's policy answers."""
    examples: int = system(at_least=1)
    """Held-out demonstrations or pairs of a source, at most."""
    micro_batch_size: int = system(at_least=1)
    """Sequences a rank scores at once."""
    samples: int = system(at_least=1)
    """Answers kept in `samples.jsonl` at each evaluation."""
    max_new_tokens: int = system(at_least=1)
    """Longest answer of an SFT policy in its evaluation; PPO uses `rollout.max_new_tokens`."""
    reward_model: Optional[str] = system()
    """Folder of a reward model (a run's or an artifact's) that scores the answers of an SFT policy in its evaluations; null: none does."""


@dataclass
class DeepSpeedConfig:
    """DeepSpeed's own knobs; read with `zero` 0 to 3 only. Sizes are in elements."""

    reduce_bucket_size: int = system(at_least=1)
    """Gradients reduced at once; a buffer of this size is kept (at most as large as the network)."""
    allgather_bucket_size: int = system(at_least=1)
    """Weights gathered at once after a step, under ZeRO 1 and 2."""
    prefetch_bucket_size: int = system(at_least=0)
    """Weights fetched ahead of their use, under ZeRO 3."""
    nvme_path: Optional[str] = system()
    """Folder on a local NVMe disk that `offload=nvme` writes to."""
    persistence_threshold: int = system(at_least=0)
    """Weights no larger than this stay whole on every rank, under ZeRO 3."""
    max_live_parameters: int = system(at_least=0)
    """Weights held whole at any time before some are let go, under ZeRO 3."""
    overlap_comm: bool = system()
    """Reduce gradients while the backward pass goes on (GPU): faster, for a second buffer."""


@dataclass
class HardwareConfig:
    """What a device holds and costs. Plans and cost figures come from here; nothing is fetched."""

    name: str = system()
    """Name of the device."""
    memory_gib: Optional[float] = system(above=0)
    """Memory of one device; null: unknown. On a CPU the run may not take more than this."""
    usd_per_hour: Optional[float] = system(at_least=0)
    """Price of one device; null: unknown."""
    source: str = system()
    """Where and when these figures were read."""


@dataclass
class TrackerConfig:
    """Where metrics are shown besides the local record, which is always written."""

    kind: TrackerKind = system()
    """`wandb` logs to Weights & Biases (offline without a login); `tensorboard` to event files in the run's folder; `none` to nothing."""
    project: str = system()
    """Project on Weights & Biases."""
    group: Optional[str] = system()
    """Group of runs; null: none. A study sets its own name."""
    tags: list[str] = system()
    """Further tags of the run."""
    trial: Optional[int] = system(at_least=0)
    """Number of the run's trial, for its name and configuration there; a study sets it. null: it is of no study."""
    swept: dict[str, str] = system()
    """What the study varies, and the values of this trial; a study sets it."""
    artifacts: TrackerArtifacts = system()
    """What W&B keeps of models: `reference` their place in the lineage, their digests and where they are on disk; `upload` the files too; `none` nothing."""
    finish_seconds: float = system(at_least=0)
    """How long the end of a run waits for W&B; raise it where models are uploaded."""


@dataclass
class PathsConfig:
    """Where things are kept."""

    outputs: str = system()
    """Folder of `runs/` and `studies/`."""
    cache: Optional[str] = system()
    """Folder for downloaded data sets and for the token ids of large ones; null: the library's own, and `paths.outputs`. Models go where `HF_HOME` says."""


@dataclass
class ParentsConfig:
    """Where the models a stage starts from come from."""

    missing: MissingParents = system()
    """`train` those that are not there yet, after saying so; `require` them to be there."""
    pretrain: Optional[str] = place()
    """Folder or hub id of a pretrained policy of your own; null: found by signature, or trained."""
    sft: Optional[str] = place()
    """Folder or hub id of an SFT policy of your own; null: found by signature, or trained."""
    rm: Optional[str] = place()
    """Folder or hub id of a reward model of your own; null: found by signature, or trained."""
    rm_members: list[str] = place()
    """With `parents.rm` and `reward.members` above 1, where the others are; empty: all are found or trained."""


@dataclass
class ChatConfig:
    """A conversation in the terminal, `python -m rlhf chat RUN`; there its keys are written without `chat.`."""

    max_new_tokens: int = system(at_least=1)
    """Longest reply."""
    temperature: float = system(at_least=0)
    """Logits are divided by this; 0: greedy."""
    top_p: float = system(above=0, at_most=1)
    """Sample from the smallest set of tokens with this much probability; 1: from all."""
    no_repeat_ngram_size: int = system(at_least=0)
    """No reply has the same so many tokens in a row twice; 0: it may."""
    seed: int = system(at_least=0)
    """Of the noise; the same one gives the same replies, and two runs side by side share it."""
    reward: Optional[str] = system()
    """Run or artifact of the reward model that scores replies; null: the one the run was trained against, if any."""
    system: Optional[str] = system()
    """System prompt; null: none."""
