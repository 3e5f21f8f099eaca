"""What a stage lacks is said before a stage before it is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf import chain
from rlhf.fault import Fault
from tests.stages import small


def rows(kind: str) -> list[dict[str, Any]]:
    answers: dict[str, dict[str, Any]] = {
        "demonstrations": {"completion": "So."},
        "rated": {"completion": "So.", "label": True},
        "pairs": {"chosen": "So.", "rejected": "No."},
    }
    return [{"prompt": f"Question {number}?", **answers[kind]} for number in range(200)]


@pytest.mark.parametrize(
    ("kind", "words", "fault"),
    [
        ("demonstrations", ["stage=ppo"], r"no pair for stage rm"),
        ("demonstrations", ["stage=rm", "rm.init=sft"], r"no pair for stage rm"),
        ("rated", ["stage=rm", "rm.init=sft"], r"rm\.loss=pairwise: no row has a second answer.* rm\.loss=mse"),
        ("pairs", ["stage=rm", "rm.init=sft", "rm.loss=margin"], r"rm\.loss=margin: no row says how much better"),
        ("pairs", ["stage=ppo", "rm.loss=mse"], r"rm\.loss=mse: no row has a rating"),
        ("pairs", ["stage=ppo", "ppo.ptx_coef=1", "ppo.ptx_data=pretrain"], r"no document for stage pretrain"),
    ],
)
def test_nothing_is_trained_for_data_that_cannot_train_the_rest(
    kind: str, words: list[str], fault: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(kind)))
    run = small.make_run(tmp_path / "out", "data=local", f"data.sources.mine.path={file}", *words)
    with pytest.raises(Fault, match=fault):
        chain.execute(run)
    assert not list((tmp_path / "out").glob("runs/*"))
