"""Ways that need ranks: one group of processes serves many, since starting one takes longer than most ways."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rlhf.invariants.compare import Distance
from rlhf.invariants.repeat import Outcome
from rlhf.invariants.truth import Truth
from rlhf.invariants.ways import Way
from rlhf.ranks import start

JOB, ANSWERS, OUTPUT = "job.json", "answers.jsonl", "output.txt"
MODULE = "rlhf.invariants.rank"


def outcomes(ways: Sequence[Way], truth: Truth, updates: int) -> Iterator[Outcome]:
    """What came of each of ``ways``, as it is known; all have the same number of ranks."""
    (ranks,) = {way.ranks for way in ways}
    truth.tensors(updates)  # they find them in the folder
    folder = truth.folder / f"ranks-{time.monotonic_ns()}"
    folder.mkdir()
    job = {"truth": str(truth.folder), "updates": updates, "ways": [asdict(way) for way in ways]}
    (folder / JOB).write_text(json.dumps(job))
    with (folder / OUTPUT).open("wb") as output:
        process = start(MODULE, folder, ranks, output)
        try:
            for number in range(len(ways)):
                while len(lines := _lines(folder)) <= number and process.poll() is None:
                    time.sleep(0.1)
                lines = lines if len(lines) > number else _lines(folder)
                yield read(lines[number]) if len(lines) > number else Outcome(broke=_last_words(folder))
        finally:
            if process.poll() is None:
                try:
                    process.wait(30 if len(_lines(folder)) == len(ways) else 0)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def write(outcome: Outcome) -> str:
    """A line of ``answers.jsonl``."""
    return json.dumps(asdict(outcome)) + "\n"


def read(line: str) -> Outcome:
    """What ``write`` wrote."""
    content = json.loads(line)
    content["apart"] = {name: Distance(**each) for name, each in content["apart"].items()}
    return Outcome(**content)


def ways_of(folder: Path) -> tuple[Truth, int, list[Way]]:
    """What the ranks are asked for: recorded updates, how many of them, and the ways."""
    job = json.loads((folder / JOB).read_text())
    ways = [Way(**{**way, "overrides": tuple(way["overrides"]), "padding": tuple(way["padding"])}) for way in job["ways"]]
    return Truth.load(Path(job["truth"])), job["updates"], ways


def _lines(folder: Path) -> list[str]:
    path = folder / ANSWERS
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")] if path.exists() else []


def _last_words(folder: Path) -> str:
    said = [line.strip() for line in (folder / OUTPUT).read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in said if "Error" in line]
    killed = "without a word, as what the system ends for want of memory does; try fewer or shorter rows, or more memory"
    return f"the ranks ended: {(errors or said or [killed])[-1]}"
