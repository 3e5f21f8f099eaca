"""``python -m rlhf doctor RUN``: findings on the terminal, or as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rlhf.command_line import EXIT_OK, report_faults
from rlhf.doctor.examine import examine
from rlhf.doctor.finding import Finding, Severity
from rlhf.fault import Fault
from rlhf.report.findings import problems
from rlhf.report.folder import read

EXIT_SICK = 1
"""There is an error among the findings, or the run did not end well."""


def main(arguments: list[str]) -> int:
    """Serve the verb."""
    words = [each for each in arguments if each != "--json"]
    if len(words) != 1:
        return report_faults(["doctor: takes the folder of a run; write python -m rlhf doctor outputs/runs/<name>"])
    try:
        run = read(Path(words[0]))
    except Fault as fault:
        return report_faults([str(fault)])
    found, ends = examine(run), list(problems(run))
    if "--json" in arguments:
        plain = [{**asdict(each), "severity": each.severity.name} for each in found]
        print(json.dumps({"problems": ends, "findings": plain}, indent=2, ensure_ascii=False))
    else:
        print("\n".join([*ends, *_told(found)]) or f"{run.path}: nothing found; {len(run.metrics)} rows looked at")
    sick = bool(ends) or any(each.severity is Severity.error for each in found)
    return EXIT_SICK if sick else EXIT_OK


def _told(found: list[Finding]) -> Iterator[str]:
    for each in found:
        yield f"{each.severity.name}: {each.name}\n  {each.evidence}\n  {each.meaning}\n  {each.fix}"
