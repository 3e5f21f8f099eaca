"""What the option of `sweep=NAME` sets beside the study itself: groups (`override /stage: sft`) and values (`sft.max_steps`).

A trial that shall be a run of its own needs them as words, since `sweep=NAME` would make it a study again. All of it needs
an initialised Hydra, and Hydra's own list of what it puts together.
"""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

OPTIONS = "sweep/"


def sets(overrides: Sequence[str]) -> dict[str, Any]:
    """The ``groups`` with their options, and the ``keys`` of values, that the sweep among ``overrides`` sets.

    The values of the keys are those of the cell: other groups, as `debug`, have a say in them as well.
    """
    loader = _loader()
    listed = loader.compute_defaults_list("config", [*overrides], RunMode.RUN)
    inside: set[str] = set()
    keys: dict[str, None] = {}
    for each in listed.defaults:
        path = each.config_path or ""
        if path.startswith(OPTIONS) or (each.parent in inside and each.parent != path):
            inside.add(path)
            content = loader._load_single_config(each, loader.repository).config
            assert isinstance(content, DictConfig)
            keys |= dict.fromkeys(key for key in _leaves(content) if key.partition(".")[0] not in ("sweep", "defaults"))
    chosen = listed.overrides.override_metadata.items()
    said = {
        group: listed.overrides.override_choices[group] for group, about in chosen if about.containing_config_path in inside
    }
    return {"groups": said, "keys": [key for key in keys if key not in said]}


def config_dir() -> str | None:
    """The folder of options of one's own (`--config-dir`), if one was given."""
    given = [each.path for each in _loader().config_search_path.get_path() if each.provider == "command-line"]
    return urlsplit(given[0]).path if given and given[0] else None


def _leaves(content: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, content):
        node = content._get_node(key)
        if isinstance(node, DictConfig) and len(node) and not OmegaConf.is_interpolation(content, key):
            yield from _leaves(node, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _loader() -> ConfigLoaderImpl:
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return loader
