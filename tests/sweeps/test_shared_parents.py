"""Studies whose trials start from parents, with fake trials."""

import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from sweeps import study
from sweeps.parents import Asked, Link
from tests.sweeps.interrupted import interrupt_when

Study = Callable[..., int]
Rows = Callable[[], list[dict[str, str]]]

FAKE_TRIAL = Path(__file__).parent / "fake_trial.py"


def chain(folder: Path) -> Asked:
    """SFT and the reward model are missing, and one system setting of SFT is swept."""
    import yaml

    config = yaml.safe_load((folder / "config.yaml").read_text())
    size = config["sft"]["micro_batch_size"]
    made = [Link("sft", "weights", f"run{size}", False), Link("rm", "scorer", "scorer", False)]
    return lambda: [*made, Link("ppo", "own", f"own{folder.name}", False)]


@pytest.fixture
def run_ppo(hydra: None, tmp_path: Path) -> Study:
    """A study of PPO runs."""

    def run(*overrides: str) -> int:
        fixed = ["stage=ppo", "sweep.name=s", "tracker=none", f"paths.outputs={tmp_path}", "sweep.parallel=1"]
        return study.main([*fixed, *overrides], lambda folder: [sys.executable, str(FAKE_TRIAL), str(folder)], chain)

    return run


def stages(tmp_path: Path) -> list[str]:
    return [line.split()[0] for line in (tmp_path / "ran_as").read_text().splitlines()]


def test_missing_parents_run_first_and_once(run_ppo: Study, rows: Rows, tmp_path: Path) -> None:
    assert run_ppo("ppo.kl_coef=0.1,0.2,0.3", "sft.learning_rate=1e-3") == 0
    assert stages(tmp_path) == ["sft", "rm", "ppo", "ppo", "ppo"]
    assert [row["status"] for row in rows()] == ["finished"] * 3
    assert sorted(path.name for path in (tmp_path / "studies/s/parents").iterdir()) == ["rm-scorer", "sft-run32"]


def test_every_reward_model_of_an_ensemble_is_a_parent(hydra: None, tmp_path: Path) -> None:
    def members(folder: Path) -> Asked:
        return lambda: [Link(name, name, name[-1], False) for name in ("sft", "rm", "rm.1", "ppo")]

    command = ["stage=ppo", "reward.members=2", "ppo.kl_coef=0.1,0.2", "sft.learning_rate=1e-3", "rm.member=3"]
    fixed = ["sweep.name=s", "tracker=none", f"paths.outputs={tmp_path}", "sweep.parallel=1"]
    assert study.main([*fixed, *command], lambda folder: [sys.executable, str(FAKE_TRIAL), str(folder)], members) == 0
    assert stages(tmp_path) == ["sft", "rm", "rm", "ppo", "ppo"]
    of_members = [OmegaConf.load(tmp_path / f"studies/s/parents/rm-{name}/config.yaml").rm.member for name in ("m", "1")]
    assert of_members == [3, 4]


def test_trials_end_with_the_parent_they_needed(run_ppo: Study, rows: Rows, tmp_path: Path) -> None:
    assert run_ppo("ppo.kl_coef=0.1,0.2", "sft.learning_rate=1e30") == 0
    assert stages(tmp_path) == ["sft"]  # nothing more is paid for
    ended = ("failed", "nan", "its sft ended failed (nan): ended as nan")
    assert [(row["status"], row["reason"], row["message"]) for row in rows()] == [ended, ended]


def test_trials_that_wait_for_a_parent_are_rows_when_it_is_stopped(run_ppo: Study, rows: Rows, tmp_path: Path) -> None:
    command = ("ppo.kl_coef=0.1,0.2", "sft.learning_rate=1e6")
    interrupt_when(tmp_path / "ran")
    assert run_ppo(*command) == 75
    assert {(row["status"], row["reason"]) for row in rows()} == {("stopped", "interrupted")}
    kept = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/studies/s/study.db").trials
    assert len(kept) == len(rows()) and all(trial.state is TrialState.FAIL for trial in kept)
    (tmp_path / "spare").touch()
    assert run_ppo(*command) == 0
    assert [row["status"] for row in rows()] == ["finished"] * 2


@pytest.mark.parametrize(("sizes", "first"), [("4,256", "finished"), ("256,4", "infeasible")])
def test_weights_that_did_not_fit_one_engine_may_be_made_by_another(
    run_ppo: Study, rows: Rows, tmp_path: Path, sizes: str, first: str
) -> None:
    assert run_ppo(f"sft.micro_batch_size={sizes}", "sft.batch_size=256", "sft.learning_rate=1e-3") == 0
    assert [row["status"] for row in rows()] == [first, "finished"]
    assert stages(tmp_path)[-1] == "ppo" and stages(tmp_path).count("rm") == 1
