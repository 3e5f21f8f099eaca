"""``key=value`` on a configuration that is composed already: for verbs."""

import difflib
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf.fault import Fault


def apply(config: DictConfig, overrides: Sequence[str], hint: str) -> None:
    """Set values on ``config``, which takes known keys only.

    Raises:
        Fault: a key is unknown, or its value is of another type; the message ends with ``hint``.
    """
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
            if override.is_add() or override.is_force_add() or override.is_delete() or override.is_sweep_override():
                raise Fault(f"{text}: one value is set here; write key=value")
            if (key := override.key_or_group) not in (known := list(_keys(config))):
                near = difflib.get_close_matches(key, known, 1)
                raise Fault(f"{text}: there is no key `{key}`; {f'did you mean `{near[0]}`?' if near else hint}")
            OmegaConf.update(config, key, override.value())
        except (HydraException, OmegaConfBaseException) as error:
            raise Fault(f"{text}: {first_line(error)}; {hint}") from error


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        yield prefix + key
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            yield from _keys(config[key], f"{prefix}{key}.")


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
