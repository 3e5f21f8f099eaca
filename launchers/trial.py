"""One trial: ``python -m launchers.trial FOLDER [PARENT] [since=SECONDS] [without-page]`` runs FOLDER's ``config.yaml``.

It leaves ``result.json``. With PARENT, the process id of the sweeper, it dies when that process does. SECONDS (since 1970) is
when its study began: a run that was finished earlier is not the study's own. With `without-page` somebody else writes the
``report.html`` of its run. A run that its study prunes ends with exit code 0.
"""

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from rlhf import verdicts
from rlhf.config import Pruner, Run
from rlhf.fault import Fault
from rlhf.result import Result, Status
from rlhf.sealed import write_atomically
from rlhf.stopping import die_with

WITHOUT_PAGE, SINCE = "without-page", "since="
REUSED = "this run was finished before: nothing was trained, and its times are those of then"


def main(arguments: list[str]) -> int:
    """Run the trial; return the exit code of its result."""
    folder = Path(arguments[0])
    if len(arguments) > 1:
        die_with(int(arguments[1]))
    run = read_config(folder)
    since = next((float(each.removeprefix(SINCE)) for each in arguments if each.startswith(SINCE)), time.time())
    if run.fresh:
        shutil.rmtree(folder / verdicts.FOLDER, ignore_errors=True)
    try:
        from rlhf import chain, provenance  # torch is imported from here on

        with provenance.overridden_by(read_overrides(folder)):
            trial = None if run.sweep.pruner is Pruner.none else folder.resolve()
            result = _told(chain.execute(run, trial=trial, pages=WITHOUT_PAGE not in arguments), since)
    except KeyboardInterrupt:  # before the run could answer it
        result = _without_run(run, Status.stopped, "interrupted", "interrupted before it began")
    except Fault as error:  # something the user named cannot be used; no traceback for that
        print(error, file=sys.stderr)
        result = _without_run(run, Status.failed, "fault", str(error))
    write_atomically(folder / "result.json", result.to_json())
    return result.exit_code


def read_config(folder: Path) -> Run:
    """The frozen configuration of a trial folder, typed."""
    run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Run), OmegaConf.load(folder / "config.yaml")))
    assert isinstance(run, Run)
    return run


def read_overrides(folder: Path) -> list[str]:
    """What the study composed the trial from."""
    path = folder / "overrides.txt"
    return path.read_text().splitlines() if path.is_file() else []


def _told(result: Result, since: float) -> Result:
    """``result``, saying so if the run was there before that time."""
    written = Path(result.folder) / "result.json"
    if result.status is not Status.finished or not written.is_file() or written.stat().st_mtime >= since:
        return result
    return replace(result, message="; ".join(filter(None, (result.message, REUSED))))


def _without_run(run: Run, status: Status, reason: str, message: str) -> Result:
    return Result(status, run.stage, run.model.name, "", "", reason=reason, message=message, seed=run.seed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
