"""Kill -9 of a study at random moments: does it end with every trial once, and is nothing left running?

python benchmarks/kills.py [--moments 30] [--trials 12] [--seed 0]

One study of real one-step SFT trials (two at a time, warm fork server) runs undisturbed. Then, for each moment, the same study
begins anew in a folder of its own, its sweeper is killed with SIGKILL at a random moment of that time, and the same command
is given again. Afterwards there must be one ended trial a cell under the numbers 0 to N - 1, no RUNNING trial in Optuna's
database, the metrics of the undisturbed study, and, seconds after the kill, no process that the sweeper started.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import optuna

ROOT = Path(__file__).resolve().parent.parent
MARK = "RLHF_KILLS"
"""Environment variable by which everything that a sweeper starts is found again."""
GRACE = 5.0
"""Seconds that what hangs on a killed sweeper may take to be gone."""
MEASURED = ("perf/", "time/", "mem/")


@dataclass(frozen=True)
class End:
    """What one killed and continued study came to."""

    moment: float
    orphans: int
    faults: list[str]


def settings(folder: Path, trials: int) -> list[str]:
    rows = [{"prompt": f"What is the sum of {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ["stage=sft", "debug=smoke", "data=local", "data.eval_fraction=0.3", "sft.max_steps=1", "sft.batch_size=4"]
    rates = ",".join(f"{number + 1}e-4" for number in range(trials))
    study = ["sweep.name=s", "sweep.parallel=2", "sweep.threads=1", f"sft.learning_rate={rates}"]
    return [*small, f"data.sources.mine.path={folder / 'rows.jsonl'}", *study]


def begin(outputs: Path, words: list[str], mark: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "rlhf", "-m", *words, f"paths.outputs={outputs}", "tracker=none"]
    environment = {**os.environ, MARK: mark, "OMP_NUM_THREADS": "1"}
    log = (outputs.parent / f"{outputs.name}.log").open("ab")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def alive(mark: str) -> list[int]:
    """Processes that a sweeper with ``mark`` has started, itself included."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            ended = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            if not ended and f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:  # gone, or not ours
            continue
    return found


def metrics(outputs: Path) -> dict[str, dict[str, float]]:
    """Of each learning rate the metrics that two runs share."""
    with (outputs / "studies/s/trials.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    folders = {row["sft.learning_rate"]: Path(row["run_folder"]) for row in rows if row["status"] == "finished"}
    told = {rate: json.loads((folder / "result.json").read_text())["metrics"] for rate, folder in folders.items()}
    return {rate: {name: each[name] for name in each if not name.startswith(MEASURED)} for rate, each in told.items()}


def faults(outputs: Path, trials: int, undisturbed: dict[str, dict[str, float]]) -> list[str]:
    """What is not as it should be after a study went on to its end."""
    found = []
    with (outputs / "studies/s/trials.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    if [row["number"] for row in rows] != [f"{number:04d}" for number in range(trials)]:
        found.append(f"numbers {[row['number'] for row in rows]}")
    if ends := [row["number"] for row in rows if row["status"] != "finished"]:
        found.append(f"not finished: {ends}")
    if metrics(outputs) != undisturbed:
        found.append("metrics differ from those of the undisturbed study")
    storage = f"sqlite:///{outputs}/studies/s/study.db"
    states = [trial.state.name for trial in optuna.load_study(study_name="s", storage=storage).trials]
    if "RUNNING" in states or "WAITING" in states or states.count("COMPLETE") != trials:
        found.append(f"Optuna's trials: {states}")
    return found


def disturbed(outputs: Path, words: list[str], moment: float, trials: int, undisturbed: dict[str, dict[str, float]]) -> End:
    mark = uuid.uuid4().hex
    outputs.mkdir()
    sweeper = begin(outputs, words, mark)
    time.sleep(moment)
    sweeper.send_signal(signal.SIGKILL)
    sweeper.wait()
    deadline = time.monotonic() + GRACE
    while (left := alive(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    again = begin(outputs, words, uuid.uuid4().hex)
    code = again.wait()
    found = [f"the second command ended with {code}"] if code else []
    return End(moment, len(left), found + faults(outputs, trials, undisturbed))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as place:
        words = settings(Path(place), asked.trials)
        whole = Path(place) / "whole"
        whole.mkdir()
        began = time.monotonic()
        assert begin(whole, words, "whole").wait() == 0, (Path(place) / "whole.log").read_text()
        seconds = time.monotonic() - began
        undisturbed = metrics(whole)
        assert len(undisturbed) == asked.trials
        print(f"undisturbed: {asked.trials} trials in {seconds:.1f} s", flush=True)
        bad = 0
        for number in range(asked.moments):
            end = disturbed(Path(place) / str(number), words, chance.uniform(0, seconds), asked.trials, undisturbed)
            bad += bool(end.orphans or end.faults)
            told = "; ".join(end.faults) or f"{asked.trials} ended trials, equal metrics"
            print(f"killed after {end.moment:5.1f} s: {end.orphans} processes left; {told}", flush=True)
        print(f"{asked.moments - bad} of {asked.moments} moments without a fault")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
