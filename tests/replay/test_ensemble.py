"""Updates that several reward models scored: another pessimism gives to the bit what a run with it would have made of them."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from rlhf.replay import knobs
from rlhf.replay.capsule import ROLLOUT
from tests.replay.recorded import record, replayed

SCORED = ("reward.members=3", "reward.disagreement_coef=0.5")


def first_update(folder: Path, stage: str, *words: str) -> Path:
    """The folder of a run that kept its first update, before which no setting can have led anywhere else."""
    folder.mkdir()
    learns = (f"{stage}.learning_rate=3e-3", f"{stage}.reward_normalization=reference", "ppo.critic_warmup=0")
    return record(folder, stage, 1, *SCORED, *learns, *words)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("ppo", ("reward.disagreement_coef=2.0",)),
        pytest.param("rloo", ("reward.disagreement_coef=0.0",), marks=pytest.mark.slow),
        pytest.param("grpo", ("reward.pessimism=worst",), marks=pytest.mark.slow),
    ],
)
def test_another_pessimism_gives_what_a_run_with_it_would_have(
    stage: str, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each member's scores are kept, and those that give the scale: it follows, and so do the weights that are learnt."""
    folder = first_update(tmp_path / "as recorded", stage)
    tensors = load_file(folder / "capsule" / ROLLOUT)
    assert tensors["raw_scores"].shape == (8, 3) and tensors["start_scores"].shape[1] == 3
    code, told = replayed(capsys, folder, *words)
    assert (code, told["equal"]) == (0, True)
    own = json.loads((first_update(tmp_path / "other", stage, *words) / "capsule" / "capsule.json").read_text())
    assert told["changed"] == own["metrics"]
    assert abs(told["changed"]["objective/scores"] - told["recorded"]["objective/scores"]) > 1e-3
    assert told["changed"]["moved/policy"] != told["recorded"]["moved/policy"]


def test_how_many_score_is_settled() -> None:
    assert knobs.refuse(["reward.pessimism=worst", "reward.disagreement_coef=0.1"], "rloo", 2, scorers=3) == []
    (fault,) = knobs.refuse(["reward.members=2"], "rloo", 2, scorers=3)
    assert fault.startswith("reward.members=2: cannot be tried on a recorded update: its raw scores are in the capsule")
