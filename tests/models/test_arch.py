"""Our vocabulary of sizes against the networks transformers builds from it."""

import math
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf.config import Family, ModelConfig
from rlhf.models.arch import hf_config

# by hand, with V = 320, H = 32, F = 128, P = 64, 2 layers, 4 heads of 8 (qwen3: of 16) and half as many keys and values:
SIZES = {
    # embedding (tied) + 2 * (2 H H + 2 H H / 2 + 3 H F + 2 norms) + norm
    Family.llama: 320 * 32 + 2 * (3 * 32 * 32 + 3 * 32 * 128 + 2 * 32) + 32,
    # embedding (tied) + P + 2 positions + 2 * (4 (H H + H) + H F + F + F H + H + 2 norms of 2 H) + norm of 2 H
    Family.opt: 320 * 32 + 66 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 128 + 128 + 32 + 4 * 32) + 2 * 32,
    # two embeddings + 2 * (4 (H H + H) + 2 H F + F + H + 2 norms of 2 H) + norm of 2 H; rotary positions have no weights
    Family.gpt_neox: 2 * 320 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 128 + 128 + 32 + 4 * 32) + 2 * 32,
    # like opt, with P positions
    Family.gpt2: 320 * 32 + 64 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 128 + 128 + 32 + 4 * 32) + 2 * 32,
    # like opt, with a norm of 2 H on the embedding instead of positions
    Family.bloom: 320 * 32 + 2 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 128 + 128 + 32 + 4 * 32) + 2 * 32,
    # like llama, with queries of 4 * 16, keys and values of 2 * 16, and norms of 16 on queries and keys
    Family.qwen3: 320 * 32 + 2 * (2 * 32 * 64 + 2 * 32 * 32 + 2 * 16 + 3 * 32 * 128 + 2 * 32) + 32,
}


@pytest.mark.parametrize("family", Family)
def test_every_size_arrives(family: Family, model_config: Callable[..., ModelConfig]) -> None:
    arch = model_config(family).arch
    assert arch is not None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(hf_config(arch))
    assert model.num_parameters() == SIZES[family]
    assert model.config.max_position_embeddings == 64
    assert model.config.num_attention_heads == 4


def test_llama3_stretches_long_wavelengths_only(model_config: Callable[..., ModelConfig]) -> None:
    """Of 2048 / 32 = 64 wide heads: angles a position, 500000^(-i/32), or 32 times less where a turn takes over 8192 tokens."""
    arch = model_config(Family.llama, hidden_size=256, rope_theta=500000.0, rope_factor=32.0, max_positions=131072).arch
    assert arch is not None
    angles = AutoModelForCausalLM.from_config(hf_config(arch)).model.rotary_emb.inv_freq
    plain = torch.tensor([500000.0 ** (-index / 32) for index in range(32)])
    turns = 8192 * plain / (2 * math.pi)
    assert torch.allclose(angles[turns > 4], plain[turns > 4])
    assert torch.allclose(angles[turns < 1], plain[turns < 1] / 32)
    between = (turns > 1) & (turns < 4)
    assert between.any() and ((angles < plain) & (angles > plain / 32))[between].all()


@pytest.mark.parametrize(("fraction", "width"), [(0.5, 4), (None, 8)])
def test_part_of_a_neox_head_is_rotated(fraction: float | None, width: int, model_config: Callable[..., ModelConfig]) -> None:
    arch = model_config(Family.gpt_neox, rope_fraction=fraction).arch
    assert arch is not None
    angles = AutoModelForCausalLM.from_config(hf_config(arch)).gpt_neox.rotary_emb.inv_freq
    assert angles.tolist() == pytest.approx([10000 ** (-2 * index / width) for index in range(width // 2)])


def test_opt350m_has_a_narrow_embedding_and_norms_behind(model_config: Callable[..., ModelConfig]) -> None:
    arch = model_config(Family.opt, embed_size=16, norm_first=False).arch
    assert arch is not None
    config = hf_config(arch)
    assert (config.word_embed_proj_dim, config.do_layer_norm_before) == (16, False)
    decoder = AutoModelForCausalLM.from_config(config).model.decoder
    assert decoder.embed_tokens.weight.shape == (320, 16)
    assert decoder.project_in.weight.shape == (32, 16) and decoder.project_out.weight.shape == (16, 32)
    assert decoder.final_layer_norm is None


@pytest.mark.parametrize("family", Family)
def test_weights_are_drawn_with_the_deviation_asked_for(family: Family, model_config: Callable[..., ModelConfig]) -> None:
    arch = model_config(family, init_std=0.3, hidden_size=64).arch
    assert arch is not None
    torch.manual_seed(0)
    weight = AutoModelForCausalLM.from_config(hf_config(arch)).get_input_embeddings().weight
    assert weight.std().item() == pytest.approx(0.3, rel=0.05)
