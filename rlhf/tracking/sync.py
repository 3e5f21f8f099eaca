"""``python -m rlhf sync [DIR ...]``: send runs that were kept offline to Weights & Biases, each step once.

wandb's own `wandb sync` does the sending. Left to itself it sends a step as often as it stands in a file, where sessions of
a resumed run overlap it moves the later steps on, and of a killed one it sends what it can and calls that a failure. So
the server is asked first which steps it has, and wandb is given copies without them, and without a torn end.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf.command_line import EXIT_FAILED, EXIT_OK, EXIT_STOPPED, report_faults
from rlhf.fault import Fault
from rlhf.runs import is_at_work, usual
from rlhf.tracking import wandb_pages
from rlhf.tracking.offline import Content, Session, read, sessions, study_folder, without_steps
from rlhf.tracking.wandb_study import Told

WORKSPACE = "workspace=true"
"""Save a workspace and a report of the studies too."""
AT_ONCE = 20
"""Runs that are handed to wandb together."""
PATIENCE = 30
"""Seconds for an answer of the server."""


@dataclass
class Sending:
    """A run on its way: what is sent for each of its sessions that was not, and the rows in there."""

    name: str
    parts: list[tuple[Session, Session]] = field(default_factory=list)
    """A session and its copy."""
    rows: int = 0
    known: int = 0
    """Rows left out, since the server has their steps."""


def main(arguments: list[str]) -> int:
    """Serve the verb; return 0 also where there was nothing to send, 1 if something could not be sent."""
    try:
        words = [word for word in arguments if word != WORKSPACE]
        if odd := [word for word in words if word.startswith("-") or "=" in word]:
            raise Fault(f"sync {odd[0]}: there is no such setting; write python -m rlhf sync [DIR ...] [{WORKSPACE}]")
        studies = [study_of(word) for word in words] if WORKSPACE in arguments else []
        if WORKSPACE in arguments and not studies:
            raise Fault(f"{WORKSPACE}: is of a study; write python -m rlhf sync outputs/studies/<name> {WORKSPACE}")
        runs = sessions(words)
        if not runs:
            print(f"nothing was kept offline in {', '.join(words) or usual().parent}")
        failed = _sync(runs)
        for folder, told in studies:
            pages = wandb_pages.save(folder, told, Server().entity)
            print(f"workspace: {pages.workspace}\nreport: {pages.report}")
        return EXIT_FAILED if failed else EXIT_OK
    except Fault as fault:
        return report_faults([str(fault)])
    except KeyboardInterrupt:
        print("stopped; the same command sends the rest", file=sys.stderr)
        return EXIT_STOPPED


def study_of(word: str) -> tuple[Path, Told]:
    """The folder of the study that ``word`` means, and what W&B was told of it.

    Raises:
        Fault: it is none, or W&B was told nothing.
    """
    folder = study_folder(word)
    if folder is None:
        raise Fault(f"{WORKSPACE}: {word} is not the folder of a study; name one of outputs/studies")
    if (told := Told.read(folder)) is None:
        raise Fault(f"{WORKSPACE}: {folder} was not shown to W&B; give its command once more, without tracker=none")
    return folder, told


def _sync(runs: list[list[Session]]) -> int:
    """Send what is due, say what became of each run, and return how many failed."""
    done = [each for each in runs if all(session.is_sent for session in each)]
    busy = [each for each in runs if each not in done and is_at_work(each[0].owner)]
    due = [each for each in runs if each not in done and each not in busy]
    for run in busy:
        print(f"{run[0].run}: is still going on, left out")
    failed = 0
    server = Server() if due else None
    for start in range(0, len(due), AT_ONCE):
        assert server is not None
        with tempfile.TemporaryDirectory() as folder:
            planned = [_planned(server, run, Path(folder) / str(at)) for at, run in enumerate(due[start : start + AT_ONCE])]
            failed += _send(planned, folder)
    said = [f"{len(due) - failed} sent", f"{len(done)} there already"]
    said += [f"{count} {what}" for count, what in ((len(busy), "left out"), (failed, "failed")) if count]
    if runs:
        print(", ".join(said))
    return failed


class Server:
    """What W&B is asked."""

    def __init__(self) -> None:
        """Log in.

        Raises:
            Fault: nobody is, or W&B cannot be reached.
        """
        import wandb  # here only: it takes seconds to import

        wandb.setup(settings=wandb.Settings(silent=True, mode="online"))  # whatever WANDB_MODE says: it is asked for
        if not wandb.login(prompt=False, verify=False):
            raise Fault("sync: nobody is logged in to W&B; run `wandb login`, or set WANDB_API_KEY")
        self._not_found: type[Exception] = wandb.apis.public.runs.RunNotFoundError
        try:
            self._api: Any = wandb.Api(timeout=PATIENCE)
            self.entity = str(self._api.settings["entity"] or self._api.default_entity)  # WANDB_ENTITY, or the person's own
        except Exception as error:
            raise _unreachable(error) from error

    def last_step(self, content: Content, run: str) -> int:
        """The last step that the run has there; -1 if it has none.

        Raises:
            Fault: W&B cannot be reached.
        """
        try:
            found = self._api.run(f"{content.entity or self.entity}/{content.project}/{run}")
            return int(found.lastHistoryStep)
        except Exception as error:  # the client's own errors and those of every layer below it
            if isinstance(error, self._not_found) or isinstance(getattr(error, "exc", None), self._not_found):
                return -1
            raise _unreachable(error) from error


def _unreachable(error: Exception) -> Fault:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Fault(f"sync: W&B cannot be asked ({reason}); what is not sent stays where it is, so try again later")


def _planned(server: Server, run: Sequence[Session], folder: Path) -> Sending:
    """What is to be sent of ``run``; copies are made in ``folder``."""
    sending, last = Sending(run[0].run), None
    for number, session in enumerate(run):
        content = None if session.is_sent else read(session)
        if content is None:
            continue
        if last is None:
            last = server.last_step(content, session.run)
        known = sum(step <= last for step in content.steps)
        sending.parts.append((session, without_steps(session, last, folder / str(number))))
        sending.rows, sending.known = sending.rows + len(content.steps) - known, sending.known + known
        last = max([last, *content.steps])
    return sending


def _send(planned: Sequence[Sending], folder: str) -> int:
    """Hand it to wandb, whose own logs go into ``folder``, mark what has arrived, say it, and return how many runs failed."""
    files = [str(copy.path) for sending in planned for _, copy in sending.parts]
    environment = {**os.environ, "WANDB_DIR": folder, "WANDB_MODE": "online"}
    command = [sys.executable, "-m", "wandb", "sync", "--include-synced", *files]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True) if files else None
    failed = 0
    for sending in planned:
        for session, copy in sending.parts:
            if copy.is_sent:
                session.mark()
        if all(session.is_sent for session, _ in sending.parts):
            known = f", {sending.known} known there" if sending.known else ""
            print(f"{sending.name}: {sending.rows} {'row' if sending.rows == 1 else 'rows'} sent{known}")
        else:
            failed += 1
            print(f"{sending.name}: was not sent ({_reason(ended)})")
    return failed


def _reason(ended: "subprocess.CompletedProcess[str] | None") -> str:
    lines = ended.stderr.strip().splitlines() if ended is not None else []
    errors: Iterator[str] = (line for line in reversed(lines) if "ERROR" in line)
    return next(errors, lines[-1] if lines else "wandb sync did not say why")
