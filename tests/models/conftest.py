"""Two-layer networks of every family, with a tokenizer trained on a few sentences."""

from collections.abc import Callable

import pytest
from transformers import PreTrainedTokenizerBase

from rlhf.config import ArchConfig, Family, ModelConfig, Template
from rlhf.models.tokenizer import train_tokenizer

SENTENCES = ["What is the capital of France?", "The capital of France is Paris.", "Thank you! How old is it?"] * 3


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer(SENTENCES, 320, Template.roles)


@pytest.fixture(scope="session")
def model_config() -> Callable[..., ModelConfig]:
    def make(family: Family, path: str | None = None, **sizes: object) -> ModelConfig:
        arch = {
            "family": family,
            "vocab_size": 320,
            "hidden_size": 32,
            "layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 16 if family is Family.qwen3 else None,
            "ffn_size": 128,
            "max_positions": 64,
            "rope_theta": 10000.0,
            "rope_fraction": 0.5,
            "rope_factor": None,
            "tie_embeddings": family is not Family.gpt_neox,
            "embed_size": None,
            "norm_first": True,
            "init_std": 0.08,
        }
        return ModelConfig(
            name=f"little-{family.name}",
            path=path,
            revision=None,
            template=Template.roles,
            dropout=0.0,
            freeze_layers=0,
            freeze_embeddings=False,
            arch=ArchConfig(**{**arch, **sizes}),
            params=None,
            usual={},
        )

    return make
