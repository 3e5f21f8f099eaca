"""Run on ranks: ``cells.py FOLDER`` repeats recorded updates in each of FOLDER's cells and writes how far they are off.

One process group serves many cells, since starting one costs more than a cell.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from deepspeed.comm.torch import TorchBackend

from rlhf.config import Offload, Precision, Run
from rlhf.data.records import Example, Turn
from rlhf.engine.base import Trainable
from rlhf.engine.deepspeed_engine import DeepSpeedEngine
from rlhf.engine.deepspeed_settings import Settings
from rlhf.engine.optimizer import OptimizerSpec
from rlhf.metrics import Metrics, Total
from rlhf.rewards.text import TextReward
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
    answers["peak"] = peak(folder)
    answers["asked"] = asked(folder)
    answers["fp16"] = {zero: overflows(folder, zero) for zero in range(4)}
    if int(os.environ["RANK"]) == 0:
        (folder / f"answers{os.environ['WORLD_SIZE']}.json").write_text(json.dumps(answers))
    dist.barrier()
    os._exit(0)  # what was to be told is told; a thread of gloo's may abort a process that takes the group down


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


def peak(folder: Path) -> list[float]:
    """Memory of this rank, and what it hears, after another rank, if there is one, has taken an eighth of a GiB more."""
    engine = DeepSpeedEngine(make_run(folder, "stage=sft", "zero=0"))
    engine.reset_peak_memory()
    with engine.phase("setup"):
        torch.ones((engine.rank + 1) * 2**25)
    own = engine.peak_memory_gib() or 0.0
    return [own, engine.take_costs()["mem/setup_gib"]]


def asked(folder: Path) -> list[int]:
    """How often each of three responses is put to a reward that reads text, over all ranks, two a group."""
    engine = DeepSpeedEngine(make_run(folder, "stage=sft", "zero=0"))
    counted: Counter[str] = Counter()

    def scorer(prompts: object, responses: list[str], solutions: object) -> list[float]:
        counted.update(responses)
        return [float(each) for each in responses]

    examples, texts = [Example((Turn("user", "?"),), None, None, "mine")] * 3, ["1", "2", "3"]
    assert TextReward("mine", scorer, engine, 2).score(examples, texts, []).tolist() == [1.0, 2.0, 3.0]
    assert TextReward("mine", scorer, engine, 2).score(examples[:1], ["4"], []).tolist() == [4.0]  # one rank has nothing
    everywhere = engine.total(Metrics({text: Total(count) for text, count in counted.items()})).values_by_name()
    return [int(everywhere[text]) for text in "1234"]


def overflows(folder: Path, zero: int) -> list[str]:
    """In fp16, which only this test allows on a CPU: the second of three steps overflows in one of two networks."""
    CPU_Accelerator.is_fp16_supported = lambda self: True
    run = make_run(folder, "stage=sft", f"zero={zero}", "deepspeed=low_memory")
    engine = DeepSpeedEngine(run)
    run.precision = Precision.fp16
    engine.format, engine._low, engine._settings = torch.float16, zero > 0, Settings(run)
    spec = OptimizerSpec.of(run.sft, learning_rate=0.1, steps=10)
    networks = {}
    for seed, name in enumerate(("policy", "critic")):
        torch.manual_seed(seed)
        networks[name] = torch.nn.Linear(4, 4)
        engine.place(networks[name])
    engine.prepare({name: Trainable(network, spec) for name, network in networks.items()})
    wrong = []
    for step, factor in enumerate((1.0, 1e6, 1.0)):
        before = {name: value.clone() for name, value in engine.tensors().items() if "/weights/" in name}
        inputs = torch.ones(2, 4, dtype=torch.float16 if zero else torch.float32)
        losses = {
            name: engine.forward(lambda module, x: module(x).float().square().mean(), each, inputs)
            for name, each in networks.items()
        }
        engine.backward({"policy": losses["policy"] / engine.ranks, "critic": losses["critic"] * factor / engine.ranks})
        row = engine.step().values_by_name()
        same = [torch.equal(value, engine.tensors()[name]) for name, value in before.items()]
        told = (row["val/overflow_steps"], row["val/loss_scale"], "grad_norm/policy" in row)
        expected = (1.0, 2.0**16, False) if step == 1 else (0.0, 2.0**16 if step == 0 else 2.0**15, True)
        if told != expected or not (all(same) if step == 1 else not any(same)):
            wrong.append(f"step {step}: {row}, unchanged {same}")
    return wrong


if __name__ == "__main__":
    main(Path(sys.argv[1]))
