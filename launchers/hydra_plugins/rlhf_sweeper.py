"""The one adapter by which Hydra finds our sweeper. Hydra imports it at every start, so it stays light."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class RlhfSweeperConf:
    """Registered as ``hydra/sweeper=rlhf``; its settings are the `sweep` group of the run itself."""

    _target_: str = "hydra_plugins.rlhf_sweeper.RlhfSweeper"


ConfigStore.instance().store(group="hydra/sweeper", name="rlhf", node=RlhfSweeperConf, provider="rlhf")


class RlhfSweeper(Sweeper):
    """Hands the overrides of a multirun to ``sweeps.study``."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives; nothing starts yet."""
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Run the study of ``arguments`` and exit with its code."""
        from rlhf import preflight
        from sweeps import study

        raise SystemExit(study.main(arguments if preflight.study is None else preflight.study))
