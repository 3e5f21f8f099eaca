"""From our one vocabulary of sizes to each family's transformers configuration."""

from typing import Any

from transformers import BloomConfig, GPT2Config, GPTNeoXConfig, LlamaConfig, OPTConfig, PretrainedConfig, Qwen3Config

from rlhf.config import ArchConfig, Family

_LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
"""Which wavelengths `rope_factor` stretches: the same numbers in every Llama 3.1 and 3.2."""


def hf_config(arch: ArchConfig) -> PretrainedConfig:
    """The transformers configuration of a network with the sizes of ``arch``."""
    shared: dict[str, Any] = {
        "vocab_size": arch.vocab_size,
        "hidden_size": arch.hidden_size,
        "num_hidden_layers": arch.layers,
        "num_attention_heads": arch.heads,
        "max_position_embeddings": arch.max_positions,
        "tie_word_embeddings": arch.tie_embeddings,
    }
    drawn: dict[str, Any] = {"initializer_range": arch.init_std}
    match arch.family:
        case Family.llama | Family.qwen3:
            kind: Any = LlamaConfig if arch.family is Family.llama else Qwen3Config
            config: PretrainedConfig = kind(
                **shared,
                **drawn,
                intermediate_size=arch.ffn_size,
                num_key_value_heads=arch.kv_heads or arch.heads,
                head_dim=arch.head_dim or arch.hidden_size // arch.heads,
                rope_parameters=_rope(arch),
            )
            return config
        case Family.opt:
            return OPTConfig(
                **shared,
                ffn_dim=arch.ffn_size,
                init_std=arch.init_std,
                do_layer_norm_before=arch.norm_first,
                word_embed_proj_dim=arch.embed_size or arch.hidden_size,
            )
        case Family.gpt_neox:
            rope = {**_rope(arch), "partial_rotary_factor": arch.rope_fraction or 1.0}
            return GPTNeoXConfig(**shared, **drawn, intermediate_size=arch.ffn_size, rope_parameters=rope)
        case Family.gpt2:
            return GPT2Config(**shared, **drawn, n_inner=arch.ffn_size)
        case Family.bloom:
            return BloomConfig(**shared, **drawn)
    raise AssertionError(arch.family)


def _rope(arch: ArchConfig) -> dict[str, Any]:
    if arch.rope_factor is None:
        return {"rope_type": "default", "rope_theta": arch.rope_theta}
    return {"rope_type": "llama3", "rope_theta": arch.rope_theta, "factor": arch.rope_factor, **_LLAMA3_ROPE}
