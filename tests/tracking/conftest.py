"""A run to be tracked, Weights & Biases without a network, and a stand-in for its server."""

from pathlib import Path

import pytest

from rlhf.tracking.about import About, Node
from tests.tracking.logged import SFT
from tests.tracking.wandb_server import server

__all__ = ["server"]


@pytest.fixture
def told(tmp_path: Path) -> About:
    """A PPO run of which nothing is done yet, with an artifact in its folder for its end."""
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "weights").write_text("heavy")
    (tmp_path / "artifact" / "manifest.json").write_text('{"files": {"weights": "d1"}}')
    return About(
        folder=tmp_path,
        stage="ppo",
        name="ppo-tiny-s1-0123",
        signature="ppo-opt1.3b-01234567",
        tags=["tiny"],
        config={"ppo": {"kl_coef": 0.1}},
        samples_a_round=8,
        first_round=0,
        fresh=False,
        inputs=[Node("demo-0", "dataset", {"data_digest": "0"}), SFT],
        output=Node("ppo-4567", "model", {"stage": "ppo", "result_signature": "4567"}),
    )


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
