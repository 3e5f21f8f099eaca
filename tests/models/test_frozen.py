"""Frozen blocks and embeddings: which weights they are, in each family."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from rlhf.config import Family, ModelConfig
from rlhf.fault import Fault
from rlhf.models.load import load_policy, load_scorer


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("load", [load_policy, lambda *rest: load_scorer(*rest, fresh_head=True)])
def test_the_first_blocks_and_the_embeddings_are_frozen(
    family: Family,
    load: Callable[..., torch.nn.Module],
    model_config: Callable[..., ModelConfig],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    model = replace(model_config(family), freeze_layers=1, freeze_embeddings=True)
    network = load(model, tokenizer, None, 0)
    names = dict(network.named_parameters())
    frozen = {name for name, parameter in names.items() if not parameter.requires_grad}
    assert {name for name in names if ".0." in name} <= frozen
    assert not any(".1." in name for name in frozen)
    tables = {name for name in names if "embed" in name or "wte" in name or "wpe" in name} - {"embed_out.weight"}
    assert {name for name in tables if "norm" not in name} <= frozen
    assert len(frozen) < len(names)


def test_more_blocks_than_there_are_is_a_fault(
    model_config: Callable[..., ModelConfig], tokenizer: PreTrainedTokenizerBase
) -> None:
    model = replace(model_config(Family.llama), freeze_layers=9)
    with pytest.raises(Fault, match=r"model\.freeze_layers=9: .* has \d layers"):
        load_policy(model, tokenizer, None, 0)
