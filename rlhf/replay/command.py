"""``python -m rlhf replay CAPSULE [key=value ...]``: an update as recorded, and under other settings."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from rlhf import checks, lineage, overrides
from rlhf.command_line import EXIT_FAILED, EXIT_OK, report_faults
from rlhf.config import Precision, Run
from rlhf.fault import Fault
from rlhf.replay import knobs, places
from rlhf.reproduce import saved, typed

JSON = "--json"
HINT = "see docs/replay.md"


def main(arguments: list[str]) -> int:
    """Serve the verb; return 0, or 1 if numbers that must be as recorded are not, 2 for a fault."""
    words = [each for each in arguments if each != JSON]
    if not words or "=" in words[0] or any("=" not in each for each in words[1:]):
        return report_faults(
            ["replay: takes a capsule and settings; write python -m rlhf replay outputs/runs/<name> key=value"]
        )
    try:
        folder = places.find(words[0])
        return _serve(folder, words[1:], as_json=JSON in arguments)
    except Fault as fault:
        return report_faults([str(fault)])


@dataclass(frozen=True)
class Asked:
    """An update, and the settings it is to be computed under."""

    folder: Path
    recorded: Run
    run: Run
    changes: list[str]
    """What was typed."""
    plain: bool
    """Whether it was recorded with plain torch on a CPU, in a format that is computed in here."""


def _serve(folder: Path, changes: list[str], as_json: bool) -> int:
    told = json.loads((folder / places.ABOUT).read_text())
    stage, update = told["stage"], told["update"]
    config = saved(folder)
    plain = told["device"] == "cpu" and config.zero.name == "none" and config.precision is not Precision.fp16
    settle(config, stage)
    changed = config.copy()
    overrides.apply(changed, changes, HINT)
    recorded = typed(config)
    scorers = sum(lineage.stage_of(name) == "rm" for name in lineage.parents(recorded, stage))
    if faults := knobs.refuse(changes, stage, update, scorers):
        return report_faults(faults)
    run = typed(changed)
    keys = [text.partition("=")[0] for text in changes]
    if faults := [each for each in checks.faults(run) if any(_names(each, key) for key in keys)]:
        return report_faults(faults)
    return _told(Asked(folder, recorded, run, changes, plain), as_json)


def settle(config: DictConfig, stage: str) -> None:
    """Make ``config`` one of plain torch on the CPU, for an update of ``stage`` and nothing around it."""
    texts = ["zero=none", "offload=none", "ranks=1", "device=cpu", f"stage={stage}"]
    texts += [f"{stage}.{key}" for key in ("reference_device=auto", "reward_device=auto", "capture_step=null")]
    texts += ["ppo.ema_decay=null", *(["precision=fp32"] if config.precision is Precision.fp16 else [])]
    texts += [
        f"parents.{name}={'[]' if isinstance(value, ListConfig) else 'null'}"
        for name, value in config.parents.items()
        if name != "missing"
    ]
    overrides.apply(config, texts, HINT)


def _told(asked: Asked, as_json: bool) -> int:
    from rlhf.engine.base import NonFinite
    from rlhf.replay import again, capsule, terminal  # torch is imported from here on

    about = capsule.read_about(asked.folder)
    as_recorded = again.compute(asked.folder, about, asked.recorded, asked.recorded)
    try:
        changed = again.compute(asked.folder, about, asked.recorded, asked.run) if asked.changes else None
    except NonFinite as error:
        raise Fault(f"{' '.join(asked.changes)}: {error}, so the run would have ended here") from error
    shown = terminal.Shown(asked.folder, about, asked.changes, as_recorded, changed, asked.plain)
    print(json.dumps(shown.content(), indent=2, ensure_ascii=False)) if as_json else shown.show()
    return EXIT_FAILED if shown.fails else EXIT_OK


def _names(fault: str, key: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", fault) is not None
