"""Our vocabulary of sizes against the networks transformers builds from it."""

from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM

from rlhf.config import Family, ModelConfig
from rlhf.models.arch import hf_config

# by hand, with V = 320, H = 32, F = 48, P = 64 and 2 layers:
SIZES = {
    # embedding (tied) + 2 * (4 H H + 3 H F + 2 norms) + norm
    Family.llama: 320 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 48 + 2 * 32) + 32,
    # embedding (tied) + P + 2 positions + 2 * (4 (H H + H) + H F + F + F H + H + 2 norms of 2 H) + norm of 2 H
    Family.opt: 320 * 32 + 66 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32) + 2 * 32,
    # two embeddings + 2 * (4 (H H + H) + 2 H F + F + H + 2 norms of 2 H) + norm of 2 H; rotary positions have no weights
    Family.gpt_neox: 2 * 320 * 32 + 2 * (4 * (32 * 32 + 32) + 2 * 32 * 48 + 48 + 32 + 4 * 32) + 2 * 32,
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
