"""``python -m rlhf compare RUN RUN ...``: on the terminal, as a page, or as JSON."""

import argparse
import json
import shlex
from pathlib import Path
from typing import NoReturn

from rlhf.command_line import EXIT_OK, report_faults
from rlhf.compare import comparison, find, page, terminal
from rlhf.fault import Fault
from rlhf.sealed import write_atomically

RUNS = (
    "a folder of outputs/runs, its name or how that begins; a study or one of its trials; the folder of an offline run of W&B, "
    "or wandb:ENTITY/PROJECT/RUN_ID; published:NAME. The first is the base line; runs that differ in their seed alone are one"
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong as every other verb does."""

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        raise Fault(f"compare: {message}; see python -m rlhf compare --help")


def main(arguments: list[str]) -> int:
    """Serve the verb."""
    try:
        asked = _parser().parse_intermixed_args(arguments)
        if asked.best is not None and asked.best < 1:
            raise Fault(f"--best {asked.best}: must be at least 1")
        subjects, notes = find.subjects(asked.runs, asked.best)
        found = comparison.compare(subjects, notes, asked.about)
        if asked.html is not None:
            _write(asked.html, page.render(found, f"python -m rlhf compare {shlex.join(arguments)}"))
        if asked.json:
            print(json.dumps(comparison.content(found), indent=2, ensure_ascii=False, allow_nan=False))
        else:
            terminal.show(found)
            if asked.html is not None:
                print(f"page: {asked.html}")
    except Fault as fault:
        return report_faults([str(fault)])
    return EXIT_OK


def _parser() -> Parser:
    parser = Parser(prog="rlhf compare", description="What sets runs apart, what came of it, and how sure that is.")
    parser.add_argument("runs", nargs="*", metavar="RUN", help=RUNS)
    parser.add_argument(
        "--about", action="append", default=[], metavar="KEY", help="a key that was meant to differ (repeatable)"
    )
    parser.add_argument(
        "--best", type=int, metavar="N", help=f"of a study, the N best settings (else all, at most {find.MOST})"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page: one file, offline, without a script")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    return parser


def _write(path: Path, text: str) -> None:
    if not path.parent.is_dir():
        raise Fault(f"--html {path}: there is no folder {path.parent}; name a file in one that is there")
    write_atomically(path, text)
