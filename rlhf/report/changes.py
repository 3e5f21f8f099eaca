"""How a run's configuration differs from the defaults, and what made each difference."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rlhf import config
from rlhf.config import CONF, STAGES, Run
from rlhf.lineage import BUILDS_ON

RECIPES = ("experiment", "debug")
"""Groups whose options set keys of other groups; they are laid over those."""

COMPARED = sorted(
    file.parent.name for file in CONF.glob("*/default.yaml") if file.parent.name not in ("data", "source", "local")
)
"""Groups with defaults that mean something alone; the others are laid beside the option that was chosen."""

NO_SWEEPER = "hydra/sweeper=basic"
"""Ours is found by the command line only, and nothing is swept here."""


@dataclass(frozen=True)
class Change:
    """A key that does not have its default."""

    key: str
    default: str
    value: str
    by: str
    """The option, recipe or command line that set it last."""


def changes(path: Path, overrides: Sequence[str], stage: str) -> list[Change]:
    """The keys in which the configuration at ``path`` differs from the `default` options of its groups.

    ``overrides`` are those of the run, companions included. Keys of later stages and folders are left out.
    """
    saved = OmegaConf.load(path)
    whole = flat(OmegaConf.merge(OmegaConf.structured(Run), saved))
    values = {key: whole[key] for key in flat(saved) if key in whole}  # keys that came since were not there to differ
    groups = [text for text in overrides if (CONF / text.partition("=")[0]).is_dir() or text.startswith("stage=")]
    options = [text for text in groups if text.partition("=")[0] not in RECIPES]
    plain = [f"{group}=default" if group in COMPARED else text for text, group in _named(options)]
    keys = ((text.lstrip("+~").partition("=")[0], text) for text in overrides if text not in groups)
    typed = {key.rpartition("@")[2]: text for key, text in keys}
    with _hydra():
        different = {tuple(plain), tuple(options), tuple(groups)}  # without a recipe the last two are the same
        composed = {chosen: compose("config", [*chosen, NO_SWEEPER]) for chosen in different}
        layers = [flat(composed[tuple(chosen)]) for chosen in (plain, options, groups)]
        usual = dict(composed[tuple(options)].model.usual)
    defaults = layers[0]
    others = {*STAGES} - {stage, *BUILDS_ON[stage]} if stage in STAGES else set()
    hidden = {*others, "paths", "stage"}
    found = []
    for key, value in values.items():
        default = defaults.get(key, "(none)")
        if value != default and key.partition(".")[0] not in hidden:
            found.append(Change(key, default, value, _by(key, value, layers, options, groups, typed, usual)))
    return sorted(found, key=lambda change: change.key)


def _by(
    key: str,
    value: str,
    layers: Sequence[dict[str, str]],
    options: Sequence[str],
    groups: Sequence[str],
    typed: dict[str, str],
    usual: dict[str, str],
) -> str:
    """Who set ``key`` last: what was typed for it, else a recipe, else its group's option."""
    for name in (key, key.rpartition(".")[0], ".".join(key.split(".")[:2])):
        if name in typed:
            return typed[name]
    if layers[2].get(key) != layers[1].get(key) and layers[2].get(key) == value:
        return " ".join(text for text in groups if text.partition("=")[0] in RECIPES)
    for text, group in _named(options):
        if key.startswith(f"{group}.") and layers[1].get(key) == value:
            option = text.partition("=")[2]
            return text + (" (usual of the model)" if usual.get(group) == option else "")
    return "not recorded"


def _named(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    return ((text, text.partition("=")[0]) for text in options)


@contextmanager
def _hydra() -> Iterator[None]:
    """The Hydra that composed this run, with its folders of own options, else one on the built-in tree."""
    if GlobalHydra.instance().is_initialized():
        yield
        return
    config.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def flat(node: Any, prefix: str = "") -> dict[str, str]:
    """Every leaf of a configuration as text by its full key."""
    if isinstance(node, DictConfig):
        node = OmegaConf.to_container(node, resolve=True, throw_on_missing=False, enum_to_str=True)
    found: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = _text(value)
    return found


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
