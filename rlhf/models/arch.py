"""From our one vocabulary of sizes to each family's transformers configuration."""

from typing import Any

from transformers import GPTNeoXConfig, LlamaConfig, OPTConfig, PretrainedConfig

from rlhf.config import ArchConfig, Family


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
    match arch.family:
        case Family.llama:
            return LlamaConfig(**shared, intermediate_size=arch.ffn_size, initializer_range=arch.init_std)
        case Family.opt:
            return OPTConfig(
                **shared,
                ffn_dim=arch.ffn_size,
                init_std=arch.init_std,
                do_layer_norm_before=arch.norm_first,
                word_embed_proj_dim=arch.embed_size or arch.hidden_size,
            )
        case Family.gpt_neox:
            return GPTNeoXConfig(**shared, intermediate_size=arch.ffn_size, initializer_range=arch.init_std)
    raise AssertionError(arch.family)
