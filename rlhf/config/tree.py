"""The configuration tree, and what is added to it in code."""

from pathlib import Path

from hydra.core.config_store import ConfigStore

from rlhf import mixes
from rlhf.config.run import COMPANIONS, STAGES, Run

_PACKAGED = Path(__file__).parent.parent / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "conf"
"""The configuration tree: inside an installed wheel, else at the top of the checkout."""


def catalogue() -> list[str]:
    """Names of the data sets in ``conf/source/`` that no mix of the same name stands for."""
    return sorted(
        {file.stem for file in (CONF / "source").glob("*.yaml")} - {file.stem for file in (CONF / "data").glob("*.yaml")}
    )


def register() -> None:
    """Tell Hydra the schema, the stages, the placeholder `auto` of the companion groups and each catalogue entry as a mix."""
    store = ConfigStore.instance()
    store.store(name="base_run", node=Run)
    for stage in STAGES:
        store.store(group="stage", name=stage, node={"stage": stage}, package="_global_")
    for group in COMPANIONS:
        store.store(group=group, name="auto", node={})
    for name in catalogue():
        store.repo["data"][f"{name}.yaml"] = mixes.NamedMix(name)
