"""Run on ranks: ``cells.py FOLDER`` repeats recorded updates in each of FOLDER's cells and writes how far they are off.

One process group serves many cells, since starting one costs more than a cell.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from deepspeed.comm.torch import TorchBackend

from rlhf.config import Offload, Run
from rlhf.engine.deepspeed_engine import DeepSpeedEngine
from rlhf.rollout.sample import sample
from tests.stages.small import build, faults, learn, make_run, score


def main(folder: Path) -> None:
    """Every cell in turn; rank 0 writes ``answers<ranks>.json``."""
    torch.set_num_threads(1)
    answers = {}
    for cell in json.loads((folder / "cells.json").read_text()):
        run = make_run(folder, *cell["overrides"])
        answers[cell["name"]] = repeat(run, folder / cell["recorded"])
    answers["gathers"] = gathers(folder, [8, 64])
    dist.barrier()
    dist.destroy_process_group()
    if int(os.environ["RANK"]) == 0:
        (folder / f"answers{os.environ['WORLD_SIZE']}.json").write_text(json.dumps(answers))


def repeat(run: Run, recorded: Path) -> list[str]:
    """The recorded updates on this cell's engine: where they differ from what plain torch made of them."""
    truth = torch.load(recorded, weights_only=False)
    stage = build(run, DeepSpeedEngine(run), truth["parents"])
    wrong = faults(truth["rows"], learn(stage, truth["batches"], micro_batch_size=2))
    return wrong + faults([truth["scored"]], [score(stage, truth["batches"])])


def gathers(folder: Path, lengths: list[int]) -> list[int]:
    """All-gathers of parameters that ZeRO 3 does while responses of each length are sampled."""
    counted = 0
    original = TorchBackend.all_gather_into_tensor

    def count(*arguments: object, **settings: object) -> object:
        nonlocal counted
        counted += 1
        return original(*arguments, **settings)

    TorchBackend.all_gather_into_tensor = count
    run = make_run(folder, "stage=sft", "zero=3", "deepspeed=low_memory")  # nothing stays whole by itself
    stage = build(run, engine := DeepSpeedEngine(run), {})
    policy, tokenizer = stage.export()
    assert run.offload is Offload.none
    found = []
    for length in lengths:
        counted = 0
        run.rollout.max_new_tokens = length
        prompts = [[tokenizer.bos_token_id, 20 + index] for index in range(4)]
        responses = sample(engine, policy, prompts, list("abcd"), run.rollout, eos=-1, pad=tokenizer.pad_token_id)
        assert {len(response) for response in responses} == {length}
        found.append(counted)
    TorchBackend.all_gather_into_tensor = original
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
