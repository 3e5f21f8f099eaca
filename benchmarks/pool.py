"""What a short trial costs beyond its own work: the warm pool against other ways to start the same trials on this machine.

python benchmarks/pool.py [trials]

Each trial is a real `stage=sft` run of one step with `debug=smoke` on 24 rows of text, on one thread (of STEPS steps where two
slots are compared with one, in turns, since on a shared machine seconds drift). `own` is what the trial
says it took to train, evaluate and save; overhead is everything else of its wall seconds. Its report is written as in a study,
by a process beside the trials; the wall time ends with the last report. CPU seconds are
those of all processes, so other load on the machine changes them less. `once` is spent before the first trial.
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

from hydra import initialize_config_dir  # noqa: E402, the path comes first
from omegaconf import OmegaConf  # noqa: E402

from launchers import pool  # noqa: E402
from launchers.pages import Pages  # noqa: E402
from launchers.pool import Job  # noqa: E402
from launchers.slots import Slots  # noqa: E402
from launchers.trial import WITHOUT_PAGE  # noqa: E402
from launchers.warm import Warm  # noqa: E402
from rlhf import composing, config  # noqa: E402
from rlhf.result import Result, Status  # noqa: E402

STEPS, ROUNDS = 400, 3
"""Of the comparison of two slots with one: optimizer steps of a trial, and how often each is measured."""
THREADS = 1
"""Of every trial, whatever the way: two threads that wait for each other on a busy machine cost more than they bring."""


@dataclass(frozen=True)
class Taken:
    """Seconds of all trials of one way, without what is done once."""

    wall: float
    cpu: float
    own: float
    once: float
    """Until the first trial could start: the server's imports, or the interpreter of the one process."""


def settings(folder: Path, steps: int = 1) -> list[str]:
    rows = [{"prompt": f"What is the sum of {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(24)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = [
        "debug=smoke",
        "data=local",
        "data.eval_fraction=0.3",
        f"sft.max_steps={steps}",
        "sft.epochs=1000",
        "sft.batch_size=4",
    ]
    return ["stage=sft", *small, f"sft.max_steps={steps}", f"data.sources.mine.path={folder / 'rows.jsonl'}"]


def freeze(folder: Path, trials: int, steps: int) -> list[Path]:
    """Trial folders as a study makes them."""
    config.register()
    folders = []
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        for number in range(trials):
            trial = folder / f"{number:04d}"
            trial.mkdir(parents=True)
            wanted = [*settings(folder, steps), f"seed={number}", f"paths.outputs={folder / 'outputs'}"]
            composed = composing.Composer().compose(wanted)
            (trial / "config.yaml").write_text(OmegaConf.to_yaml(composed, resolve=True))
            folders.append(trial)
    return folders


def cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def in_pool(folder: Path, trials: int, parallel: int, warm: bool, steps: int = 1) -> Taken:
    """Our pool, with the warm server or with a fresh process for each trial."""
    folders = freeze(folder, trials, steps)
    codes: list[int | None] = []
    began = time.perf_counter()
    with Warm(pool.environment()) if warm else _nothing() as server:
        while server is not None and not server.settled():
            time.sleep(0.01)
        ready, spent = time.perf_counter(), cpu()
        pages = Pages(server, print)
        arguments = (WITHOUT_PAGE,) if warm else ()

        def ended(end: pool.End) -> None:
            codes.append(end.code)
            pages.add(Path(Result.load(end.job.folder / "result.json").folder))

        jobs = pool.each(Job(each.name, each, arguments=arguments) for each in folders)
        pool.run(jobs, Slots(parallel, THREADS), ended, tick=lambda running: pages.tick(), warm=server)
        pages.finish()
        wall, cpu_ = time.perf_counter() - ready, cpu() - spent
    assert codes == [0] * trials, codes
    return Taken(wall, cpu_, own(folder / "outputs"), ready - began)


def own(outputs: Path) -> float:
    """What the runs in ``outputs`` say they took, in all."""
    results = [Result.load(path) for path in (outputs / "runs").glob("*/result.json")]
    assert all(result.status is Status.finished for result in results)
    return sum(result.seconds for result in results)


def by_hydra(folder: Path, trials: int, launcher: Sequence[str]) -> Taken:
    """Hydra's own sweeper with one of its launchers: the same trials as a multirun, less a multirun of one."""

    def multirun(name: str, seeds: range) -> tuple[float, float]:
        wanted = [*settings(folder), f"seed={','.join(map(str, seeds))}", f"paths.outputs={folder / name}"]
        command = [sys.executable, "-m", "rlhf", "-m", "hydra/sweeper=basic", *launcher, *wanted]
        began, spent = time.perf_counter(), cpu()
        path = os.pathsep.join((str(ROOT), str(ROOT / "launchers")))
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
        return time.perf_counter() - began, cpu() - spent

    folder.mkdir()
    one, one_cpu = multirun("one", range(1))
    all_, all_cpu = multirun("all", range(trials + 1))
    return Taken(all_ - one, all_cpu - one_cpu, own(folder / "all") - own(folder / "one"), one)


def two_over_one(folder: Path, trials: int) -> list[float]:
    """Wall seconds of trials in one slot over those in two, once a round."""
    found = []
    for round_ in range(ROUNDS):
        one, two = (in_pool(folder / f"{round_}-{slots}", trials, slots, True, STEPS).wall for slots in (1, 2))
        found.append(one / two)
    return found


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 24
    ways: dict[str, Callable[[Path], Taken]] = {
        "warm pool, 1 slot": lambda folder: in_pool(folder, trials, 1, True),
        "fresh process, 1 slot": lambda folder: in_pool(folder, trials, 1, False),
        "warm pool, 2 slots": lambda folder: in_pool(folder, trials, 2, True),
        "hydra, basic": lambda folder: by_hydra(folder, trials, []),
    }
    if find_spec("hydra_plugins.hydra_joblib_launcher"):
        ways["hydra, joblib, 2 workers"] = lambda folder: by_hydra(
            folder, trials, ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        )
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    taken: dict[str, Taken] = {}
    print(f"{trials} trials; a trial in seconds; load before: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    print(f"{'':<26}{'wall':>8}{'own':>8}{'overhead':>10}{'CPU':>8}{'once':>8}", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, way) in enumerate(ways.items()):
            found = taken[name] = way(Path(temporary) / str(number))
            at_once = 2 if "2" in name else 1  # then the overheads of two trials lie side by side
            wall, spent, itself = found.wall / trials, found.cpu / trials, found.own / trials
            row = f"{wall:>8.2f}{itself:>8.2f}{wall * at_once - itself:>10.2f}{spent:>8.2f}{found.once:>8.1f}"
            print(f"{name:<26}{row}", flush=True)
        ratios = two_over_one(Path(temporary), max(4, trials // 3))
    one, two, fresh = (taken[name] for name in ("warm pool, 1 slot", "warm pool, 2 slots", "fresh process, 1 slot"))
    print(f"overhead of a fresh process over that of a warm one: {(fresh.wall - fresh.own) / (one.wall - one.own):.1f}")
    print(f"CPU of a trial in a fresh process over that in a warm one: {fresh.cpu / one.cpu:.1f}")
    print(f"two slots over one, trials of one step: {one.wall / two.wall:.2f}")
    print(f"two slots over one, trials of {STEPS} steps: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")


if __name__ == "__main__":
    main()
