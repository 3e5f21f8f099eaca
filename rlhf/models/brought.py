"""What `model=custom` is: the description under which an artifact is loaded that brings all of its own."""

from omegaconf import OmegaConf

from rlhf.config import CONF, ModelConfig, Template


def brought(name: str) -> ModelConfig:
    """A model called ``name`` whose weights, sizes, tokenizer and template are those of the artifact."""
    own = {"name": name, "path": None, "template": Template.tokenizer.name}
    root, custom = (OmegaConf.load(CONF / file) for file in ("config.yaml", "model/custom.yaml"))
    described = OmegaConf.merge(OmegaConf.structured(ModelConfig), root.model, custom, own)
    model = OmegaConf.to_object(described)
    assert isinstance(model, ModelConfig)
    return model
