"""``python -m rlhf reproduce RUN``: the run again from its own saved configuration, and whether it came out the same."""

import glob
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlhf import checks, followed, lineage
from rlhf.command_line import EXIT_FAILED, report_faults
from rlhf.config import CONF, Run
from rlhf.data.corpus import WORLD
from rlhf.fault import Fault
from rlhf.overrides import apply, first_line
from rlhf.result import Result, Status
from rlhf.runs import CONFIG, folder_of

WHOLE_CHAIN = "whole_chain=true"
"""Train the parents again too, instead of starting from the ones the run started from."""
MEASURED = ("perf/", "time/", "mem/")
"""Beginnings of metrics that no two runs share."""


def main(arguments: list[str]) -> int:
    """Serve the verb; return 0 if everything is equal, 1 if not, else what the run ended with."""
    if not arguments or "=" in arguments[0]:
        return report_faults(["reproduce: takes the folder of a run; write python -m rlhf reproduce outputs/runs/<name>"])
    overrides = arguments[1:]
    whole_chain = WHOLE_CHAIN in overrides
    overrides = [text for text in overrides if text != WHOLE_CHAIN]
    try:
        folder = folder_of(arguments[0])
        config = saved(folder)
        before = Result.read(folder / "result.json")
        if before is None:
            raise Fault(
                f"{folder}: has no result.json, so there is nothing to compare with; the run's own command goes on with it"
            )
        _ask_for(config, before.stage)
        config.paths.outputs = str(_fresh_outputs(folder))
        config.fresh, config.tracker.kind = False, "none"  # a second run of the same name would go on in W&B's first
        apply(config, overrides, "groups are settled in a saved configuration, set single keys")
        run = typed(config)
        if faults := checks.faults(run):
            return report_faults(faults)
        return _again(folder, before, config, overrides, whole_chain)
    except Fault as fault:
        return report_faults([str(fault)])


def saved(folder: Path) -> DictConfig:
    """The configuration a run was made with, which takes known keys only.

    Raises:
        Fault: it has keys that are gone since.
    """
    path = folder / CONFIG
    content = OmegaConf.load(path)
    later = [
        file
        for file in sorted(CONF.glob("*/default.yaml"))
        if file.parent.name in Run.__annotations__ and file.parent.name not in content
    ]
    for file in later:
        print(f"{file.parent.name}: came after the run was made; today's default is taken", file=sys.stderr)
    try:
        groups = [OmegaConf.create({file.parent.name: OmegaConf.load(file)}) for file in later]
        config = OmegaConf.merge(OmegaConf.structured(Run), *groups, content)
    except OmegaConfBaseException as error:
        raise Fault(f"{path}: {first_line(error)}; today's code has no such key, so check out the run's commit") from error
    assert isinstance(config, DictConfig)
    return config


def _ask_for(config: DictConfig, stage: str) -> None:
    """Turn the configuration of a chain into that of ``stage``, which may have been run as a parent in it."""
    if config.stage != stage:
        config.stage, config.early_stop = stage, followed.NEVER


def typed(config: DictConfig) -> Run:
    """The run that ``config`` describes.

    Raises:
        Fault: a key that came since has no value in it.
    """
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise Fault(
            f"{', '.join(missing)}: came after the run was made; add it behind, as {missing[0]}=..., or check out its commit"
        )
    run = OmegaConf.to_object(config)
    assert isinstance(run, Run)
    return run


def _again(folder: Path, before: Result, config: DictConfig, overrides: Sequence[str], whole_chain: bool) -> int:
    from rlhf import chain, provenance  # torch is imported from here on
    from rlhf.tracking.screen import warn

    if not whole_chain:
        _start_from_the_same(folder, before, config)
    recorded = provenance.read(folder)
    _find_data(config, recorded.get(provenance.FOLDER), overrides)
    run = typed(config)
    told = (folder / "overrides.txt").read_text().splitlines() if (folder / "overrides.txt").is_file() else []
    if not recorded:
        warn(f"{folder}: has no {provenance.ENVIRONMENT}, so nobody knows where it ran")
    for difference in provenance.differences(recorded, provenance.environment(chain.load_corpus(run))) if recorded else ():
        warn(f"not as it was: {difference}")
    with provenance.overridden_by([*told, *overrides]):
        after = chain.execute(run)
    print(f"{before.folder or folder} again, in {after.folder}: {after.status.name} {after.reason}".rstrip())
    if after.status is not Status.finished or before.status is not Status.finished:
        print(f"the first one ended as {before.status.name} {before.reason}: {before.message}".rstrip(": "))
        return after.exit_code
    differing = [*_weights(folder / "artifact", Path(after.artifact or "")), *_metrics(before.metrics, after.metrics)]
    for line in differing:
        print(f"  {line}")
    print("equal: the artifact's bytes and the final metrics" if not differing else "not equal: the above")
    return EXIT_FAILED if differing and not overrides else after.exit_code


def _find_data(config: DictConfig, started_in: str | None, overrides: Sequence[str]) -> None:
    """Take relative paths of data from the folder the run was started in, not from this one.

    Raises:
        Fault: nothing is there.
    """
    for name, source in config.data.sources.items():
        key, path = f"data.sources.{name}.path", str(source.path)
        named = path.startswith("hub:") or path == WORLD or Path(path).expanduser().is_absolute()
        if named or any(text.startswith(f"{key}=") for text in overrides):
            continue
        place = str(Path(started_in or ".") / path)
        if not glob.glob(place):
            where = (
                f"{started_in}, where the run was started" if started_in else "this folder, and the run's own was not recorded"
            )
            raise Fault(f"{key}={path}: is not in {where}; put it there, or write {key}=... behind")
        source.path = place


def _start_from_the_same(folder: Path, before: Result, config: DictConfig) -> None:
    """Name the parents the run started from, where they still are; the others are trained again."""
    from rlhf import artifact

    names = lineage.parents(typed(config), before.stage)
    there = {name: next(artifact.find(folder.resolve().parent, before.parents.get(name, "")), None) for name in names}
    scorers = [there.pop(name) for name in names if lineage.stage_of(name) == "rm"]
    if None not in scorers[1:] and config.parents.rm is None:  # all of an ensemble, or none
        there |= {"rm": scorers[0]} if scorers else {}
        if scorers[1:] and scorers[0] is not None:
            config.parents.rm_members = [str(each) for each in scorers[1:]]
            print(f"parents.rm_members=[{','.join(config.parents.rm_members)}]")
    for name, found in there.items():
        if config.parents[name] is None and found is not None:
            print(f"parents.{name}={found}")
            config.parents[name] = str(found)


def _weights(before: Path, after: Path) -> list[str]:
    """The files of two artifacts that are not the same bytes; what tells of a run (card, manifest) is not compared."""
    from rlhf.sealed import Broken, open_sealed

    try:
        old, new = (dict(open_sealed(path)["files"]) for path in (before, after))
    except Broken as error:
        return [str(error)]
    names = sorted(name for name in old.keys() | new.keys() if name.rpartition("/")[2] != "README.md")
    return [f"{name}: {_how_far(before / name, after / name)}" for name in names if old.get(name) != new.get(name)]


def _how_far(before: Path, after: Path) -> str:
    if not (before.is_file() and after.is_file()):
        return "is in one of them only"
    if before.suffix != ".safetensors":
        return "differs"
    from safetensors.torch import load_file

    old, new = load_file(before), load_file(after)
    if old.keys() != new.keys() or any(old[name].shape != new[name].shape for name in old):
        return "holds other tensors"
    return f"differs, by at most {max((old[name].float() - new[name].float()).abs().max().item() for name in old):.2g}"


def _metrics(before: dict[str, float], after: dict[str, float]) -> list[str]:
    names = sorted(name for name in before.keys() | after.keys() if not name.startswith(MEASURED))
    pairs = [(name, before.get(name, "none"), after.get(name, "none")) for name in names]
    return [f"{name}: {old} → {new}" for name, old, new in pairs if old != new and str(old) != str(new)]  # nan is not nan


def _fresh_outputs(folder: Path) -> Path:
    """`reproduced/<run>-1` beside `runs`, or the first number that is free."""
    root = folder.resolve().parent.parent / "reproduced"
    number = 1
    while (root / f"{folder.resolve().name}-{number}").exists():
        number += 1
    return root / f"{folder.resolve().name}-{number}"
