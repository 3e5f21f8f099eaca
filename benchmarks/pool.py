"""What a short trial costs beyond its own work: the warm pool against other ways to start the same trials on this machine.

python benchmarks/pool.py [trials]

Each trial is a real `stage=sft` run of one step with `debug=smoke` on 24 rows of text. `work` is what the same trial takes in
a process that has everything imported (Hydra's basic launcher, without its start); overhead is what a way takes beyond it.
CPU seconds are those of all processes, so other load on the machine changes them less than wall seconds.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "launchers")]

from hydra import compose, initialize_config_dir  # noqa: E402, the path comes first
from omegaconf import OmegaConf  # noqa: E402

from launchers import pool  # noqa: E402
from launchers.pool import Job  # noqa: E402
from launchers.slots import Slots  # noqa: E402
from launchers.warm import Warm  # noqa: E402
from rlhf import config, preflight  # noqa: E402
from rlhf.result import Result, Status  # noqa: E402


@dataclass(frozen=True)
class Taken:
    """Seconds of all trials of one way, without what is done once."""

    wall: float
    cpu: float
    once: float
    """Until the first trial could start: the server's imports, or the interpreter of the one process."""


def settings(folder: Path) -> list[str]:
    rows = [{"prompt": f"What is the sum of {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ["debug=smoke", "data=local", "data.eval_fraction=0.3", "sft.max_steps=1", "sft.batch_size=4"]
    return ["stage=sft", *small, f"data.sources.mine.path={folder / 'rows.jsonl'}"]


def freeze(folder: Path, trials: int) -> list[Path]:
    """Trial folders as a study makes them."""
    config.register()
    folders = []
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        for number in range(trials):
            trial = folder / f"{number:04d}"
            trial.mkdir(parents=True)
            wanted = [*settings(folder), f"seed={number}", f"paths.outputs={folder / 'outputs'}"]
            composed = compose("config", [*wanted, *preflight.companions(wanted)])
            (trial / "config.yaml").write_text(OmegaConf.to_yaml(composed, resolve=True))
            folders.append(trial)
    return folders


def cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def in_pool(folder: Path, trials: int, parallel: int, warm: bool) -> Taken:
    """Our pool, with the warm server or with a fresh process for each trial."""
    folders = freeze(folder, trials)
    codes: list[int | None] = []
    began = time.perf_counter()
    with Warm(pool.environment()) if warm else _nothing() as server:
        while server is not None and not server.settled():
            time.sleep(0.01)
        ready, spent = time.perf_counter(), cpu()
        jobs = pool.each(Job(each.name, each) for each in folders)
        pool.run(jobs, Slots(parallel), lambda end: codes.append(end.code), warm=server)
        taken = Taken(time.perf_counter() - ready, cpu() - spent, ready - began)
    assert codes == [0] * trials, codes
    return taken


def by_hydra(folder: Path, trials: int, launcher: Sequence[str]) -> Taken:
    """Hydra's own sweeper with one of its launchers: the same trials as a multirun, less a multirun of one."""

    def multirun(name: str, seeds: range) -> tuple[float, float]:
        wanted = [*settings(folder), f"seed={','.join(map(str, seeds))}", f"paths.outputs={folder / name}"]
        command = [sys.executable, "-m", "rlhf", "-m", "hydra/sweeper=basic", *launcher, *wanted]
        began, spent = time.perf_counter(), cpu()
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        results = [Result.load(path) for path in (folder / name / "runs").glob("*/result.json")]
        assert [result.status for result in results] == [Status.finished] * len(seeds)
        return time.perf_counter() - began, cpu() - spent

    folder.mkdir()
    one, one_cpu = multirun("one", range(1))
    all_, all_cpu = multirun("all", range(trials + 1))
    return Taken(all_ - one, all_cpu - one_cpu, one)


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    ways: dict[str, Callable[[Path], Taken]] = {
        "hydra, basic": lambda folder: by_hydra(folder, trials, []),
        "warm pool, 1 slot": lambda folder: in_pool(folder, trials, 1, True),
        "fresh process, 1 slot": lambda folder: in_pool(folder, trials, 1, False),
        "warm pool, 2 slots": lambda folder: in_pool(folder, trials, 2, True),
    }
    if find_spec("hydra_plugins.hydra_joblib_launcher"):
        ways["hydra, joblib, 2 workers"] = lambda folder: by_hydra(
            folder, trials, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        )
    os.environ["OMP_NUM_THREADS"] = "1"
    taken: dict[str, Taken] = {}
    print(f"{trials} trials; a trial in seconds; load before: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    print(f"{'':<26}{'wall':>8}{'overhead':>10}{'CPU':>8}{'overhead':>10}{'once':>8}")
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, way) in enumerate(ways.items()):
            found = taken[name] = way(Path(temporary) / str(number))
            work = taken["hydra, basic"]
            wall, spent = found.wall / trials, found.cpu / trials
            print(
                f"{name:<26}{wall:>8.2f}{wall - work.wall / trials:>10.2f}"
                f"{spent:>8.2f}{spent - work.cpu / trials:>10.2f}{found.once:>8.1f}",
                flush=True,
            )
    base, one, two = taken["hydra, basic"], taken["warm pool, 1 slot"], taken["warm pool, 2 slots"]
    fresh = taken["fresh process, 1 slot"]
    for what, part in (("wall", lambda each: each.wall), ("CPU", lambda each: each.cpu)):
        ratio = (part(fresh) - part(base)) / max(part(one) - part(base), 1e-3)
        print(f"overhead of a fresh process over that of a warm one, {what}: {ratio:.1f}")
    print(f"two slots over one: {one.wall / two.wall:.2f}")


if __name__ == "__main__":
    main()
