"""``key=value`` on a configuration that is composed already: for verbs."""

from collections.abc import Sequence

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
            OmegaConf.update(config, override.key_or_group, override.value())
        except (HydraException, OmegaConfBaseException) as error:
            raise Fault(f"{text}: {first_line(error)}; {hint}") from error


def first_line(error: BaseException) -> str:
    """The first line of what ``error`` says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
