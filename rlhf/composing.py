"""Composes runs out of options and values, through Hydra.

Hydra takes options first and then sets values in their order, whatever stands first on a command line. Setting values on
a copy of what was composed of options takes a tenth of the time of composing all anew, so a ``Composer`` keeps that.

All of this needs an initialised Hydra (inside a task, a sweeper or ``preflight.check``).
"""

from collections.abc import Sequence
from functools import lru_cache

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from rlhf.config import COMPANIONS
from rlhf.fault import Fault


class Composer:
    """Composes with the groups that are left at `auto` filled in, as the command line does."""

    def __init__(self) -> None:
        self._companions: dict[tuple[str, ...], list[str]] = {}
        """By the options that decide them."""
        self._bases: dict[tuple[str, ...], DictConfig] = {}
        """What was composed of options alone, by these."""
        self._chooses: dict[str, bool] = {}

    def companions(self, overrides: Sequence[str]) -> list[str]:
        """Overrides for the groups that ``overrides`` leave at `auto`.

        Raises:
            Fault: what the model usually goes with does not exist.
            HydraException: an option does not exist.
        """
        chosen = self._options(overrides)
        if chosen not in self._companions:
            self._companions[chosen] = companions(chosen)
        return self._companions[chosen]

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """What Hydra composes of ``overrides`` and their companions.

        Raises:
            Fault, HydraException, OmegaConfBaseException: an override does not hold.
        """
        chosen = (*self._options(overrides), *self.companions(overrides))
        if chosen not in self._bases:
            self._bases[chosen] = compose("config", list(chosen))
        return with_values(self._bases[chosen], [each for each in overrides if not self._is_choice(each)])

    def _options(self, overrides: Sequence[str]) -> tuple[str, ...]:
        return tuple(each for each in overrides if self._is_choice(each))

    def _is_choice(self, override: str) -> bool:
        key = override.partition("=")[0]
        if key not in self._chooses:
            self._chooses[key] = chooses(override)
        return self._chooses[key]


def companions(overrides: Sequence[str]) -> list[str]:
    """Overrides for the groups that ``overrides`` leave at `auto`: the model's usual option, else `default`.

    Raises:
        Fault: what the model usually goes with does not exist.
    """
    chosen = [each for each in overrides if chooses(each)]
    config = compose("config", chosen, return_hydra_config=True)  # without values: their group may still be at `auto`
    choices, usual = config.hydra.runtime.choices, config.model.usual
    filled = []
    for group in COMPANIONS:
        if choices.get(group) == "auto":
            option = usual.get(group, "default")
            if option not in options(group):
                raise Fault(f"model.usual.{group}={option}: conf/{group} has no such option")
            filled.append(f"{group}={option}")
    return filled


def with_values(base: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """A copy of ``base``, which is composed already, with ``overrides`` of values as Hydra sets them: in their order."""
    hydra, changed = loader(), base.copy()
    hydra._apply_overrides_to_config(OverridesParser.create(config_loader=hydra).parse_overrides(list(overrides)), changed)
    return changed


def chooses(override: str) -> bool:
    """Whether ``override`` chooses an option of a group, rather than giving a value to a key."""
    return is_group(override.partition("=")[0].lstrip("+~").partition("@")[0])


def is_group(key: str) -> bool:
    """Whether ``key`` is a group of options."""
    return _is_group(loader(), key)


def options(group: str) -> tuple[str, ...]:
    """The options of ``group``, with those that are made in code."""
    return _options(loader(), group)


def loader() -> ConfigLoaderImpl:
    """That of the Hydra that is initialised."""
    found = GlobalHydra.instance().config_loader()
    assert isinstance(found, ConfigLoaderImpl)
    return found


# Remembered, since Hydra looks through all folders anew; the options of a loader stay what they are.


@lru_cache(maxsize=4096)
def _is_group(loader: ConfigLoaderImpl, key: str) -> bool:
    return bool(loader.get_group_options(key) or loader.list_groups(key))


@lru_cache(maxsize=4096)
def _options(loader: ConfigLoaderImpl, group: str) -> tuple[str, ...]:
    return tuple(loader.get_group_options(group, ObjectType.CONFIG))
