"""``python -m rlhf study DIR``: the answer on the terminal, live while the study runs, and its page anew."""

import difflib
import os
import sys
import time
from pathlib import Path

from rich.live import Live

from rlhf.command_line import EXIT_OK, report_faults
from rlhf.fault import Fault
from sweeps import logbook
from sweeps.answer import folder, page, terminal
from sweeps.answer.folder import Study
from sweeps.answer.tracks import Tracks

EVERY_SECONDS = 2.0
OTHER_LINES = 24
"""Lines of a live view that are not trials."""
FEWEST_ROWS = 5


def main(arguments: list[str]) -> int:
    """Serve the verb."""
    if len(arguments) != 1:
        return report_faults(["study: takes one folder; write python -m rlhf study outputs/studies/<name>"])
    path, tracks = Path(arguments[0]), Tracks()
    try:
        if not (path / logbook.NAME).is_file():
            raise Fault(f"study {path}: has no {logbook.NAME}{_hint(path)}")
        study = folder.read(path, tracks)
        place = page.write(study)
        console = terminal.console()
        if study.is_running and console.is_terminal:
            study = _watch(study, tracks)
            place = page.write(study)
        console.print(terminal.view(study, page.of_keys(study)))
        print(f"report: {place}\nall metrics: {path / 'trials.csv'}", flush=True)
    except BrokenPipeError:  # whoever reads has seen enough, as in `study DIR | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Fault as fault:
        return report_faults([str(fault)])
    except OSError as error:
        return report_faults([f"study {path}: {error.strerror or error}; name a folder you can write to"])
    return EXIT_OK


def _watch(study: Study, tracks: Tracks) -> Study:
    """Show it again and again until it ends, or Ctrl-C."""
    console = terminal.console()
    rows = max(FEWEST_ROWS, console.height - OTHER_LINES)
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while study.is_running:
                live.update(terminal.view(study, page.of_keys(study), rows), refresh=True)
                time.sleep(EVERY_SECONDS)
                study = folder.read(study.path, tracks)
    except KeyboardInterrupt:
        pass
    return study


def _hint(path: Path) -> str:
    books = [*path.glob(f"*/{logbook.NAME}"), *path.glob(f"studies/*/{logbook.NAME}")]
    here = sorted(str(book.parent) for book in books)
    if here:
        return f"; studies there: {', '.join(here)}"
    if (path / "trials.csv").is_file():
        return "; the study's own command writes it (its rows are in trials.csv)"
    if not path.is_dir():
        beside = sorted(each.parent.name for each in path.parent.glob(f"*/{logbook.NAME}"))
        near = difflib.get_close_matches(path.name, beside, n=1)
        return f"; there is no such folder{f', did you mean {path.parent / near[0]}?' if near else ''}"
    return "; it is written when the first trial of a study begins"
