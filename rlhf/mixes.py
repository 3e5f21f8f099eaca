"""A single data set as a mix of data: an option that Hydra finds without a file."""

from typing import Any

from hydra.core.config_store import ConfigNode
from omegaconf import DictConfig, OmegaConf


class NamedMix(ConfigNode):
    """The option `data=<name>` for `conf/source/<name>.yaml`.

    Hydra copies its whole store several times at each start, so this one is made only when it is loaded, and is not copied.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}.yaml", DictConfig({}), "data", None, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "NamedMix":
        return self

    def __copy__(self) -> ConfigNode:
        """What Hydra takes when the option is chosen."""
        source = self.name.removesuffix(".yaml")
        defaults = ["default", {f"/source@sources.{source}": source}, "_self_"]
        return ConfigNode(self.name, OmegaConf.create({"defaults": defaults, "name": source}), self.group, None, None)
