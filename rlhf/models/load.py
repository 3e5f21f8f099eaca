"""Policies and scorers, always in fp32: loaded from a folder or the hub, or drawn at random from an architecture.

A scorer is exactly transformers' ``AutoModelForSequenceClassification`` with one label: a linear head without bias on
the trunk's hidden states. Reward models read it at the last true token, critics at every token.
"""

from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from rlhf.config import ModelConfig
from rlhf.fault import Fault
from rlhf.models.arch import hf_config
from rlhf.models.frozen import freeze
from rlhf.models.packaged import local_source

transformers_logging.set_verbosity_error()  # it warns that a reward model's head is new; that is the point
transformers_logging.disable_progress_bar()

_DROPOUTS = (
    *("dropout", "attention_dropout", "activation_dropout", "hidden_dropout", "classifier_dropout", "layerdrop"),
    *("attn_pdrop", "resid_pdrop", "embd_pdrop", "summary_first_dropout"),
)

_BENDS_LOGITS = ("logit_scale", "logits_scaling", "final_logit_softcapping")
"""Settings of networks (Cohere, Granite, Gemma 2) that scale or cap what their output layer gives."""


def load_policy(model: ModelConfig, tokenizer: PreTrainedTokenizerBase, path: Path | None, seed: int) -> PreTrainedModel:
    """A causal language model from ``path`` (an artifact's folder), else from the model's own path or sizes."""
    return _load(AutoModelForCausalLM, model, tokenizer, path, seed, set())


def load_scorer(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, path: Path | None, seed: int, fresh_head: bool
) -> PreTrainedModel:
    """A sequence classifier with one label; with ``fresh_head`` its head is drawn from N(0, 1 / (d + 1)).

    The variance is the one of Stiennon et al. 2020 (their reward model's code; Huang et al. 2024, detail 8).
    """
    new = {"score.weight"} if fresh_head else set()
    scorer = _load(AutoModelForSequenceClassification, model, tokenizer, path, seed, new, num_labels=1)
    if fresh_head:
        weight = cast(nn.Linear, scorer.score).weight
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            weight.copy_(noise / (weight.shape[1] + 1) ** 0.5)
    return scorer


def _load(
    auto: type,
    model: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    path: Path | None,
    seed: int,
    new: set[str],
    **extra: int,
) -> PreTrainedModel:
    """Load or draw a network; only the weights named in ``new`` may be missing where it is loaded from."""
    torch.manual_seed(seed)
    source = str(path) if path is not None else model.path
    if source is None:
        assert model.arch is not None
        config = hf_config(model.arch)
        _settle(config, model, tokenizer, **extra)
        loaded = auto.from_config(config, dtype=torch.float32)  # type: ignore[attr-defined]
    else:
        revision = None
        if path is None:
            source, revision = local_source(source, model.revision)
        named = f"model.path={model.path}" if path is None else f"parents: {source}"
        try:
            config = AutoConfig.from_pretrained(source, revision=revision)
            _refuse_bent_logits(config, named)
            _settle(config, model, tokenizer, **extra)
            loaded, found = auto.from_pretrained(  # type: ignore[attr-defined]
                source, revision=revision, config=config, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise Fault(
                f"{named}: holds no model that can be loaded ({first}); give a folder, or a hub id that this machine can reach"
            ) from error
        if missing := sorted(set(found["missing_keys"]) - new):
            what = "policy (a causal language model)" if auto is AutoModelForCausalLM else "reward model (one score a sequence)"
            raise Fault(f"{named}: lacks {', '.join(missing[:3])}, so it is no {what}; these weights would be random")
    rows = loaded.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        loaded.resize_token_embeddings(len(tokenizer))
    loaded.config.pad_token_id = tokenizer.pad_token_id
    if loaded.can_generate():
        loaded.generation_config.eos_token_id = tokenizer.eos_token_id
        loaded.generation_config.pad_token_id = tokenizer.pad_token_id
        loaded.generation_config.bos_token_id = tokenizer.bos_token_id
    freeze(loaded, model, "model" if auto is AutoModelForCausalLM else "reward_model")
    return loaded


def _refuse_bent_logits(config: PretrainedConfig, named: str) -> None:
    """``forward`` takes logits straight from the output layer; a network that does more to them would be read wrongly."""
    for key in _BENDS_LOGITS:
        if getattr(config, key, None) not in (None, 1, 1.0):
            raise Fault(
                f"{named}: {config.model_type} changes its logits ({key}), which is not supported; choose another model"
            )


def _settle(config: PretrainedConfig, model: ModelConfig, tokenizer: PreTrainedTokenizerBase, **extra: int) -> None:
    """Make the tokenizer's special tokens and our dropout the network's own."""
    for name in _DROPOUTS:
        if hasattr(config, name):
            setattr(config, name, model.dropout)
    # a pad token that was added has no row yet, and some embeddings refuse to be built with one outside of them
    config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id < config.vocab_size else None
    config.eos_token_id = tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    for name, value in extra.items():
        setattr(config, name, value)
