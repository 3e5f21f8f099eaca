"""PPO in two worlds whose best answer is known, with the real stages: a small network learns from rows, then from the reward.

The policy starts as good as the rows it learnt from, which are far from the best there is; PPO must come close to that, on
prompts it never saw. A minute and more each, so they wait for ``-m slow``; ``test_walks.py`` is the quick form.
"""

import json
from pathlib import Path

import pytest

from rlhf import chain
from rlhf.config import Run
from tests.oracles import worlds
from tests.stages.small import make_run

WORLDS = {"walks": (worlds.walk_rows, 80, 0.93), "digits": (worlds.digit_rows, 160, 0.87)}
"""Rows, updates, and the mean score [0, 1] that PPO is to reach."""


def solve(outputs: Path, world: str) -> tuple[float, float]:
    """Mean scores of held-out answers before and after PPO."""
    make_rows, updates, _ = WORLDS[world]
    rows = outputs / f"{world}.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in make_rows()))
    networks = [f"{slot}.arch.{size}" for slot in ("model", "reward_model") for size in ("hidden_size=64", "ffn_size=192")]
    run: Run = make_run(
        outputs,
        *("stage=ppo", "data=local", f"data.sources.mine.path={rows}", "data.sources.mine.stages=[sft,ppo]", "seed=1"),
        *("data.eval_fraction=0.2", *networks),
        *(
            "sft.epochs=1000",
            "sft.max_steps=400",
            "sft.batch_size=32",
            "sft.micro_batch_size=32",
            "rollout.max_new_tokens=12",
            "rollout.micro_batch_size=256",
        ),
        *("reward=file", f"reward.path={worlds.__file__}:score_{world}", "ppo.reward_normalization=none"),
        *(
            "ppo.missing_eos_penalty=0",
            "ppo.kl_coef=0",
            "ppo.entropy_coef=0.01",
            "ppo.inner_epochs=2",
            "ppo.learning_rate=1e-3",
        ),
        *(f"ppo.updates={updates}", "ppo.batch_size=128", "ppo.minibatches=2", "ppo.micro_batch_size=64"),
        *("ppo.final_lr_fraction=0", "evaluation.prompts=256", "evaluation.micro_batch_size=256"),
    )
    result = chain.execute(run)
    assert result.artifact is not None, result.message
    evaluations = [
        row for row in map(json.loads, (Path(result.artifact).parent / "metrics.jsonl").open()) if row["kind"] == "eval"
    ]
    return evaluations[0]["eval/score_raw"], evaluations[-1]["eval/score_raw"]


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_ppo_solves_it(world: str, tmp_path: Path) -> None:
    before, after = solve(tmp_path, world)
    assert before < 0.6
    assert after > WORLDS[world][2]
