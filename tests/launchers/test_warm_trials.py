"""Real trials from a real warm server."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf

import launchers
from launchers import pool
from launchers.pages import Pages
from launchers.pool import End, Job
from launchers.question import chain_of
from launchers.slots import Slots
from launchers.trial import WITHOUT_PAGE
from launchers.warm import Warm
from rlhf import composing, config
from rlhf.fault import Fault
from tests.launchers.conftest import variables, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks and adopts as Linux does")

ROWS = [
    {"prompt": f"What is the sum of {n} and {n}?", "chosen": f"It is {2 * n}.", "rejected": f"It is {2 * n + 1}."}
    for n in range(12)
]
SMALL = ["debug=smoke", "data=local", "data.eval_fraction=0.3", "sft.max_steps=1", "sft.batch_size=4"]


def freeze(folder: Path, *overrides: str) -> Path:
    """A trial's folder with its configuration, as a study makes it."""
    folder.mkdir(parents=True)
    rows = folder.parent / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    sys.path.append(str(Path(launchers.__file__).parent))
    config.register()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        wanted = [*SMALL, f"data.sources.mine.path={rows}", f"paths.outputs={folder / 'outputs'}", *overrides]
        composed = composing.Composer().compose(wanted)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(composed, resolve=True))
    return folder


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    said: list[str] = []
    with Warm(variables(), said.append) as server:
        wait_for(server.settled)
        assert server.usable, said
        yield server


def run(jobs: list[Job], slots: Slots, warm: Warm | None) -> list[End]:
    ends: list[End] = []
    pool.run(pool.each(jobs), slots, ends.append, warm=warm)
    return ends


@pytest.mark.slow
def test_a_warm_trial_computes_what_a_fresh_one_does(warm: Warm, tmp_path: Path) -> None:
    forked, fresh = freeze(tmp_path / "forked", "stage=sft"), freeze(tmp_path / "fresh", "stage=sft")
    ends = [*run([Job("a", forked)], Slots(1, 2), warm), *run([Job("b", fresh)], Slots(1, 2), None)]
    assert [end.code for end in ends] == [0, 0], (forked / "log.txt").read_text()
    first, second = result(forked), result(fresh)
    timed = ("perf/", "time/", "mem/")
    metrics = [
        {name: value for name, value in each["metrics"].items() if not name.startswith(timed)} for each in (first, second)
    ]
    assert metrics[0] == metrics[1] and "eval/loss" in metrics[0]
    places = [json.loads((Path(each["folder"]) / "environment.json").read_text()) for each in (first, second)]
    assert places[0]["threads"] == 2
    assert {key for key in places[0] if places[0][key] != places[1][key]} <= {"data"}  # which names the file


def test_the_stages_of_a_trial_are_told_before_it_runs(warm: Warm, tmp_path: Path) -> None:
    folder = freeze(tmp_path / "ppo", "stage=ppo")
    stages = {each["stage"]: each for each in chain_of(warm, folder)}
    assert list(stages) == ["sft", "rm", "ppo"]
    assert stages["ppo"]["parents"] == ["sft", "rm"] and stages["sft"]["parents"] == []
    assert not any(each["finished"] for each in stages.values())
    parent = freeze(tmp_path / "sft", "stage=sft", f"paths.outputs={folder / 'outputs'}")
    (own,) = chain_of(warm, parent)
    assert own == stages["sft"]  # so a job of its own makes what the trial will look for
    (end,) = run([Job("sft", parent)], Slots(1), warm)
    assert end.code == 0 and result(parent)["run_signature"] == own["run_signature"]
    again = {each["stage"]: each["finished"] for each in chain_of(warm, folder)}
    assert again == {"sft": True, "rm": False, "ppo": False}


def test_a_trial_that_cannot_be_used_says_why(warm: Warm, tmp_path: Path) -> None:
    folder = freeze(tmp_path / "sft", "stage=sft", "data.sources.mine.path=no/such/file.jsonl")
    with pytest.raises(Fault, match="no/such/file.jsonl"):
        chain_of(warm, folder)


def test_a_reward_that_cannot_be_had_is_told_before_its_parents_are_trained(warm: Warm, tmp_path: Path) -> None:
    reward = tmp_path / "mine.py"
    reward.write_text("def rate(prompts, responses): ...\n")
    folder = freeze(tmp_path / "ppo", "stage=ppo", "reward=file", f"reward.path={reward}:score")
    with pytest.raises(Fault, match="mine.py"):
        chain_of(warm, folder)


def test_pages_are_written_beside_the_trials(warm: Warm, tmp_path: Path) -> None:
    said: list[str] = []
    pages = Pages(warm, said.append)
    folder = freeze(tmp_path / "sft", "stage=sft")
    (end,) = run([Job("sft", folder, arguments=(WITHOUT_PAGE,))], Slots(1), warm)
    made = Path(result(folder)["folder"])
    assert end.code == 0 and not (made / "report.html").exists()
    pages.add(made)
    pages.add(tmp_path / "no run")
    pages.finish()
    assert "</html>" in (made / "report.html").read_text() and said == []  # one without a page has said so on its own


@pytest.mark.slow
def test_trials_of_two_ranks_at_the_same_time_do_not_meet(warm: Warm, tmp_path: Path) -> None:
    folders = [freeze(tmp_path / zero, "stage=sft", "ranks=2", f"zero={zero}", "sft.micro_batch_size=2") for zero in ("0", "2")]
    ends = run([Job(each.name, each, ranks=2) for each in folders], Slots(2, 2), warm)
    assert [end.code for end in ends] == [0, 0]
    losses = [result(each)["metrics"]["eval/loss"] for each in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
