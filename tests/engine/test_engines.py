"""All engines compute the same: ZeRO stages, offload, ranks, gradient checkpointing against plain torch (law 6).

Five updates on recorded batches, of all weights or of adapters; losses and gradient norms within 1e-5 x max(0.1, |x|) of
plain torch in fp32.
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.engine.torch_engine import TorchEngine
from tests.stages.small import build, learn, make_run, record, score, train_parents

ROOT = Path(__file__).parents[2]
FAMILIES, STAGES = ("opt", "gpt_neox", "llama"), ("sft", "rm", "ppo")
SHARDINGS = ("0 none", "1 none", "1 optimizer", "2 none", "2 optimizer", "3 none", "3 optimizer", "3 all")
Cell = tuple[str, str, str, bool, bool]
EVERY: list[Cell] = list(itertools.product(FAMILIES, STAGES, SHARDINGS, (False, True), (False, True)))
SOME: list[Cell] = [EVERY[index] for index in range(0, len(EVERY), 41)]  # 41: each value meets many of the others
SOME += [("llama", "dpo", "3 optimizer", True, False), ("llama", "dpo", "2 none", False, True)]
SOME += [("llama", "grpo", "3 none", False, False)]


def learns_at_once(family: str, adapters: bool) -> list[str]:
    return [
        *(["lora=dim8", "reward_lora=dim8"] if adapters else []),
        *(f"{slot}.arch.family={family}" for slot in ("model", "reward_model")),
        *("ppo.critic_warmup=0", "ppo.learning_rate=1e-3", "sft.warmup_steps=0", "rm.warmup_steps=0"),
        *("dpo.warmup_steps=0", "dpo.learning_rate=1e-3", "grpo.learning_rate=1e-3"),
        *("kto.warmup_steps=0", "kto.learning_rate=1e-2"),
        *("best_of_n.learning_rate=1e-3", "best_of_n.min_score=0"),
    ]


def overrides(cell: Cell, more: Sequence[str]) -> list[str]:
    family, stage, sharding, checkpointing, adapters = cell
    zero, offload = sharding.split()
    again = f"{stage}.gradient_checkpointing={str(checkpointing).lower()}"
    return [f"stage={stage}", *learns_at_once(family, adapters), *more, f"zero={zero}", f"offload={offload}", again]


def answers(cells: list[Cell], ranks: int, folder: Path, *more: str) -> dict[str, Any]:
    """What each cell found, computed on ``ranks`` processes; plain torch is recorded here first. ``more``: of all cells."""
    for family, stage, adapters in sorted({(cell[0], cell[1], cell[4]) for cell in cells}):
        run = make_run(folder, f"stage={stage}", *learns_at_once(family, adapters), *more)
        parents = train_parents(folder, make_run(folder, f"stage={stage}", *learns_at_once(family, False), *more))
        plain = build(run, TorchEngine(run.device, run.precision, run.deterministic), parents)
        batches = record(plain, updates=5)
        batches.append(batches[0])  # its loss tells what the fifth update made of the weights
        plain = build(run, TorchEngine(run.device, run.precision, run.deterministic), parents)
        rows = learn(plain, batches, micro_batch_size=2)
        scored = score(plain, batches)
        assert abs(rows[-1]["loss"] - rows[0]["loss"]) > 1e-3  # or nothing was learnt, and agreeing on it would be easy
        torch.save(
            {"batches": batches, "rows": rows, "scored": scored, "parents": parents}, folder / f"{family}-{stage}-{adapters}.pt"
        )
    listed = [
        {"name": " ".join(map(str, cell)), "overrides": overrides(cell, more), "recorded": f"{cell[0]}-{cell[1]}-{cell[4]}.pt"}
        for cell in cells
    ]
    (folder / "cells.json").write_text(json.dumps(listed))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "launchers")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": path}
    ended = subprocess.run([*command, ROOT / "tests/engine/cells.py", folder], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-4000:]
    found: dict[str, Any] = json.loads((folder / f"answers{ranks}.json").read_text())
    return found


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_engines_agree_with_plain_torch(ranks: int, tmp_path: Path) -> None:
    cells = SOME if ranks == 2 else SOME[:3]
    found = answers(cells, ranks, tmp_path)
    assert found.pop("fp16") == {str(zero): [] for zero in range(4)}
    assert found.pop("asked") == [1, 1, 1, 1]  # a rank without work of its own does not call a person's reward
    own, heard = found.pop("peak")
    assert (heard > own + 0.05) == (ranks > 1)  # memory is that of the rank which takes most
    few, many = found.pop("gathers")
    assert few == many and (few > 0) == (ranks > 1)  # ZeRO 3 gathers once a rollout, however long the responses
    assert len(found) == len(cells)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.slow
def test_the_reference_point_is_that_of_all_ranks(tmp_path: Path) -> None:
    cells: list[Cell] = [("llama", "kto", "2 none", True, False), ("llama", "kto", "3 none", False, True)]
    found = answers(cells, 2, tmp_path)
    recorded = [torch.load(path, weights_only=False)["scored"] for path in tmp_path.glob("llama-kto-*.pt")]
    assert len(recorded) == 2 and min(each["kto/reference_point"] for each in recorded) > 1e-3
    assert [found[" ".join(map(str, cell))] for cell in cells] == [[], []]


@pytest.mark.slow
def test_prompts_of_which_nothing_is_kept_keep_ranks_alike(tmp_path: Path) -> None:
    cells: list[Cell] = [("llama", "best_of_n", "2 none", True, False), ("llama", "best_of_n", "3 none", False, True)]
    found = answers(cells, 2, tmp_path)
    assert [found[" ".join(map(str, cell))] for cell in cells] == [[], []]


@pytest.mark.slow
def test_several_reward_models_disagree_as_far_on_all_ranks(tmp_path: Path) -> None:
    cells: list[Cell] = [("llama", "ppo", "2 none", False, False), ("llama", "ppo", "3 none", False, True)]
    found = answers(cells, 2, tmp_path, "reward.members=3", "reward.disagreement_coef=0.7")
    recorded = [torch.load(path, weights_only=False)["scored"] for path in tmp_path.glob("llama-ppo-*.pt")]
    assert len(recorded) == 2 and min(each["objective/disagreement"] for each in recorded) > 1e-2
    assert [found[" ".join(map(str, cell))] for cell in cells] == [[], []]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_every_cell_agrees_with_plain_torch(ranks: int, tmp_path: Path) -> None:
    found = answers(EVERY, ranks, tmp_path)
    found = {name: wrong for name, wrong in found.items() if name not in ("gathers", "peak", "asked", "fp16")}
    assert len(found) == len(EVERY)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
