"""All faults of a command line at once, before Hydra runs and without torch.

Hydra stops at the first fault, with a traceback. Here every override is tried on its own against the composed
configuration, so that one screen shows them all. The same pass fills the groups left at `auto` with the model's usual
companions.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra import compose, version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from rlhf import bounds, composing, mistyped
from rlhf.composing import Composer, is_group
from rlhf.config import CONF, SweepMode
from rlhf.fault import Fault

OURS = "rlhf"
"""Our sweeper, by the name Hydra knows it by."""
CONTINUOUS = "a continuous range has no grid; list its values, or search it: sweep.mode=tune sweep.trials=20"

study: list[str] | None = None
"""The overrides of the study that our sweeper is to run; None: those that Hydra hands it.

Hydra composes once before there are cells, with the groups that are chosen cell by cell left open, where the keys of their
options (`data.sources.<name>.cap`, `model.arch.layers`) do not exist; so it is not given them.
"""


@dataclass
class Preflight:
    """What a command line amounts to: its faults, or the overrides that fill the groups left at `auto`, and the run."""

    faults: list[str] = field(default_factory=list)
    companions: list[str] = field(default_factory=list)
    composed: DictConfig | None = None
    """The run; of a sweep the first one."""
    ours: bool = True
    """Whether it is for our sweeper, if it is for one."""


def check(overrides: list[str], multirun: bool = False, own: Path | None = None) -> Preflight:
    """Find every fault in ``overrides``; sweep values are tried one by one when ``multirun`` is set.

    ``own`` is a folder of further options (Hydra's ``--config-dir``).
    """
    with hydra(own):
        return _check(overrides, multirun)


@contextmanager
def hydra(own: Path | None = None) -> Iterator[None]:
    """An initialised Hydra: what hydra.initialize_config_dir does, with a folder ``own`` of further options."""
    search = create_config_search_path(str(CONF))
    if own is not None:
        search.prepend("command-line", f"file://{own.absolute()}", SearchPathQuery(provider="schema"))
    version.setbase("1.3")
    Hydra.create_main_hydra2("rlhf", search)
    try:
        yield
    finally:
        GlobalHydra.instance().clear()


def chooses_study(overrides: list[str]) -> bool:
    """Whether ``overrides`` name a study (`sweep=NAME`), which is many runs without `-m`."""
    return any(
        key.strip() == "sweep" and value.strip() != "null" for key, _, value in (each.partition("=") for each in overrides)
    )


def with_space(overrides: list[str], sweep: DictConfig) -> list[str]:
    """``overrides``, and the dimensions of the ``sweep`` they choose where none of them has taken their place."""
    typed = {override_key(each) for each in overrides}
    return [*overrides, *(f"{key}={written}" for key, written in sweep.space.items() if str(key) not in typed)]


def sweep_config(overrides: list[str]) -> DictConfig:
    """The `sweep` that ``overrides`` choose: of their options and of their values for it; the usual one if they are faulty.

    Needs an initialised Hydra.
    """
    parser = OverridesParser.create(config_loader=composing.loader())
    chosen = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            continue
        if not override.is_sweep_override() and (override.key_or_group.startswith("sweep.") or is_group(override.key_or_group)):
            chosen.append(text)
    for tried in (chosen, [text for text in chosen if override_key(text) in ("sweep", "experiment")], []):
        try:
            node = compose("config", tried).sweep
        except (HydraException, OmegaConfBaseException):
            continue
        assert isinstance(node, DictConfig)
        return node
    raise AssertionError("the built-in configuration does not compose")


def override_key(override: str) -> str:
    """The key of an override as typed, with the place of an added data set, without `+` and `~`."""
    return override.partition("=")[0].strip().lstrip("+~")


def _check(overrides: list[str], multirun: bool) -> Preflight:
    found = Preflight()
    composer = Composer()
    searched = False
    if multirun:
        sweep = sweep_config(overrides)
        searched, overrides = sweep.mode is SweepMode.tune, with_space(overrides, sweep)
    parser = OverridesParser.create(config_loader=composing.loader())
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except HydraException:
            found.faults.append(f"{text}: {mistyped.not_read(text)}")

    groups, values, hydras = [], [], []
    for override in parsed:
        key, line = override.key_or_group, mistyped.line_of(override)
        if key.startswith(("hydra.", "hydra/")):
            hydras.append(override)
        elif override.is_sweep_override() and not multirun:
            found.faults.append(f"{line}: several values; add -m to run them all, or quote the text")
        elif override.is_sweep_override() and not override.is_discrete_sweep() and not (searched and not is_group(key)):
            found.faults.append(f"{line}: {CONTINUOUS}")
        elif not is_group(key):
            values.append(override)
        elif fault := mistyped.of_choice(override):
            found.faults.append(f"{line}: {fault}")
        else:
            bad = [str(value) for value in _values(override) if value is not None and str(value) not in composing.options(key)]
            options = [option for option in composing.options(key) if option != "auto"]
            found.faults += [
                f"{key}={value}: conf/{key} has no such option{mistyped.near_option(value, options)}" for value in bad
            ]
            if not bad:
                groups.append(override)

    fixed = [mistyped.line_of(override) for override in groups if not override.is_sweep_override()]
    try:
        base = composer.compose(fixed)
        # a launcher that is chosen has keys of its own
        chosen = [mistyped.line_of(override) for override in hydras if "/" in override.key_or_group]
        for override in hydras:
            words = [*chosen, *([] if "/" in override.key_or_group else [mistyped.line_of(override)])]
            OmegaConf.select(compose("config", words, return_hydra_config=True), override.key_or_group)
    except InterpolationToMissingValueError:
        pass  # of something Hydra only knows at run time
    except (HydraException, OmegaConfBaseException, Fault) as error:
        line = _first_line(error)
        found.faults.append(line + ("; each comes in a package, see docs/launchers.md" if "'hydra/launcher/" in line else ""))
        return found
    faults, tried = _value_faults(base, values)
    found.faults += faults
    if found.faults:  # then nobody composes the run, but what is out of range on its own is told along
        found.faults += _out_of_range(tried)
        return found

    first = _cell(overrides, parsed)
    found.composed = composer.compose([each for each in first if not override_key(each).startswith("hydra.")])
    missing = sorted(OmegaConf.missing_keys(found.composed))
    found.faults += [f"{key}: needs a value; write {key}=..." for key in missing]
    if not found.faults and not multirun:
        found.companions = composer.companions(overrides)
    found.ours = all(override.key_or_group != "hydra/sweeper" or override.value() == OURS for override in hydras)
    if not found.faults and multirun and not found.ours:
        _fill_for_all(found, [mistyped.line_of(override) for override in parsed if is_group(override.key_or_group)])
    return found


def _fill_for_all(found: Preflight, groups: list[str]) -> None:
    """Companions for a sweeper that is not ours, which knows none: the same for every cell, or a fault."""
    parsed = OverridesParser.create(config_loader=composing.loader()).parse_overrides(groups)
    chosen = [list(_texts(override)) for override in parsed if not override.key_or_group.startswith("hydra/")]
    known = {tuple(composing.companions(cell)) for cell in itertools.product(*chosen)}
    if len(known) == 1:
        found.companions = list(known.pop())
        return
    differing = sorted({text.partition("=")[0] for each in known for text in each if any(text not in other for other in known)})
    found.faults.append(
        f"hydra/sweeper: {', '.join(differing)}: `auto` stands for another option in each cell, and only hydra/sweeper={OURS} "
        "fills them in; name one, or leave the sweeper as it is"
    )


def _value_faults(base: DictConfig, values: list[Override]) -> tuple[list[str], DictConfig]:
    """Try each value on ``base``; those that hold stay, so that a new source's later keys find it.

    Returns:
        the faults, and what came of ``base``.
    """
    faults = []
    for override in values:
        fault = mistyped.of_key(override, {*_keys(base), *composing.loader().list_groups("")})
        if fault:
            faults.append(f"{mistyped.line_of(override)}: {fault}")
            continue
        for text in _texts(override):
            try:
                base = composing.with_values(base, [text])
            except (HydraException, OmegaConfBaseException) as error:
                faults.append(f"{text}: {_first_line(error)}")
    return faults, base


def _out_of_range(config: DictConfig) -> list[str]:
    try:
        return list(bounds.faults(OmegaConf.to_object(config)))
    except OmegaConfBaseException:  # something that is needed was not given
        return []


def _cell(overrides: list[str], parsed: list[Override]) -> list[str]:
    """The first job of a sweep: each sweep override reduced to its first value."""
    return [
        next(_texts(override), mistyped.line_of(override)) if override.is_sweep_override() else mistyped.line_of(override)
        for override in parsed
    ]


def _values(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    return [override.value()]


def _texts(override: Override) -> Iterator[str]:
    if not override.is_sweep_override():
        yield mistyped.line_of(override)
    elif override.is_discrete_sweep():
        for value in override.sweep_string_iterator():
            yield f"{override.get_key_element()}={value}"
    elif isinstance(interval := override._value, IntervalSweep):  # its ends stand for what lies between
        for end in (interval.start, interval.end):
            yield f"{override.get_key_element()}={end}"


def _keys(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config):
        name = f"{prefix}{key}"
        yield name
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and not node._is_interpolation():
            yield from _keys(node, name + ".")


def _first_line(error: BaseException) -> str:
    return str(error.__cause__ or error).strip().splitlines()[0]
