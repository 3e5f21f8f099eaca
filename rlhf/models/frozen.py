"""Weights of a network that stay as they were loaded: its first blocks, its embeddings."""

from torch import nn
from transformers import PreTrainedModel

from rlhf.config import ModelConfig
from rlhf.fault import Fault


def freeze(network: PreTrainedModel, model: ModelConfig, key: str) -> None:
    """Freeze what ``model.freeze_layers`` and ``model.freeze_embeddings`` name.

    Raises:
        Fault: there are not as many blocks; the message names ``key``, the model's slot.
    """
    trunk = network.base_model
    depth = network.config.num_hidden_layers
    blocks = next(each for each in trunk.modules() if isinstance(each, nn.ModuleList) and len(each) == depth)
    if model.freeze_layers > depth:
        raise Fault(f"{key}.freeze_layers={model.freeze_layers}: {model.name} has {depth} layers")
    for block in blocks[: model.freeze_layers]:
        block.requires_grad_(False)
    if model.freeze_embeddings:
        for table in trunk.modules():
            if isinstance(table, nn.Embedding):
                table.requires_grad_(False)
