"""Findings while a run goes on: those that any row can show, each told once in the life of the run."""

import sys
from collections import deque
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from rlhf.doctor import of_computation, of_policies, of_sampling, of_signs
from rlhf.doctor.finding import Finding, History
from rlhf.report.folder import rows
from rlhf.tracking.record import Record

TOLD = "findings.jsonl"
"""In the run's folder: what was told, so that a session that goes on with the run does not tell it again."""
FIRST, LATEST = 4, 16
"""Rows that are looked at: so many of the beginning and so many up to now, whatever the length of the run."""
RULES = (*of_signs.RULES, *of_computation.RULES, *of_sampling.RULES, of_policies.hacked, of_policies.critic_start)
"""The other rules judge how a run ended."""


class Live:
    """Looks at a run's rows as they are written."""

    def __init__(self, folder: Path, stage: str, first_round: int) -> None:
        """Go on after ``first_round`` rounds, whose rows are in the record; at 0 nothing has been told yet."""
        if not first_round:
            (folder / TOLD).unlink(missing_ok=True)
        self._record = Record(folder / TOLD, sys.maxsize)
        self._told = {row["name"] for row in rows(folder / TOLD)}
        recorded = list(rows(folder / "metrics.jsonl"))
        self._first, self._latest = list(islice(recorded, FIRST)), deque(recorded[FIRST:], maxlen=LATEST)
        self._history = History.within(folder, stage, [])

    def look(self, row: Mapping[str, Any]) -> list[Finding]:
        """What ``row``, the next of the record, shows for the first time."""
        (self._first if len(self._first) < FIRST else self._latest).append(dict(row))
        history = History(self._history.stage, [*self._first, *self._latest], self._history.config, self._history.facts)
        found = {finding.name: finding for rule in RULES for finding in rule(history)}
        new = [finding for name, finding in found.items() if name not in self._told]
        for finding in new:
            self._told.add(finding.name)
            about = {"severity": finding.severity.name, "name": finding.name, "evidence": finding.evidence}
            self._record.append({"round": row["round"], **about})
        return new

    def close(self) -> None:
        """Close the file."""
        self._record.close()
