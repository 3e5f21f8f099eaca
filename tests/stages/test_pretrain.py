"""Pretraining: blocks are the documents laid end to end, nothing lost, and what follows starts from it."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.config import Run
from rlhf.fault import Fault
from rlhf.stages.interface import Stage

SMALL = ("pretrain.max_length=32", "pretrain.batch_size=4")


def blocks_of(stage: Stage, steps: int, first: int = 0) -> list[torch.Tensor]:
    return [batch.ids for (batch,) in itertools.islice(stage.batches(first), steps)]


def test_blocks_are_the_documents_laid_end_to_end(build: Callable[..., Stage]) -> None:
    stage = build("pretrain", *SMALL)
    tokenizer, order = stage._tokenizer, stage._setting.corpus.order("pretrain", 0, 1)
    documents = [stage._documents[index].tolist() for index in order]
    for ids in documents:
        assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id
    first_epoch = list(itertools.chain.from_iterable(documents))
    steps = len(first_epoch) // (32 * 4)
    laid = torch.cat(blocks_of(stage, steps)).flatten().tolist()
    assert laid == first_epoch[: len(laid)] and len(laid) == steps * 32 * 4
    later = torch.cat(blocks_of(stage, 2 * steps)).flatten().tolist()  # the rest of the first epoch is not lost
    assert later[: len(first_epoch)] == first_epoch


def test_a_later_start_sees_the_same_blocks(build: Callable[..., Stage]) -> None:
    stage = build("pretrain", *SMALL)
    assert all(map(torch.equal, blocks_of(stage, 50)[47:], blocks_of(stage, 3, first=47)))


def test_the_loss_is_that_of_plain_transformers(build: Callable[..., Stage]) -> None:
    stage = build("pretrain", *SMALL)
    ((batch,),) = itertools.islice(stage.batches(0), 1)
    expected = stage.export()[0](input_ids=batch.ids, labels=batch.ids).loss  # it shifts by one, as we do
    losses, _ = stage.loss(batch)
    assert losses["policy"].item() / batch.weight == pytest.approx(expected.item(), rel=1e-5)
    parts = sum(stage.loss(part)[0]["policy"].item() for part in batch.split(1))
    assert parts == pytest.approx(losses["policy"].item(), rel=1e-5)


def test_stages_start_from_it(make_run: Callable[..., Run]) -> None:
    sft = chain.execute(make_run("stage=sft", "sft.init=pretrain"))
    (base,) = {chain.identify(make_run("stage=pretrain"), "pretrain").result_signature}
    assert sft.parents == {"pretrain": base} and sft.status.name == "finished"
    ppo = chain.execute(make_run("stage=ppo", "ppo.init=pretrain", "reward=function", "reward.function=length",
                                 "reward.target_words=5"))  # fmt: skip
    assert ppo.parents == {"pretrain": base} and ppo.status.name == "finished"


def test_text_of_ones_own(make_run: Callable[..., Run], tmp_path: Path) -> None:
    rows = tmp_path / "texts.jsonl"
    rows.write_text("".join(json.dumps({"text": f"A story about number {n}. " * 20}) + "\n" for n in range(60)))
    source = ("data=local", f"data.sources.mine.path={rows}")
    result = chain.execute(make_run("stage=pretrain", *source, "data.sources.mine.stages=[pretrain]"))
    assert result.metrics["eval/perplexity"] > 1
    with pytest.raises(Fault, match=r"no demonstration for stage sft"):
        chain.execute(make_run("stage=sft", *source, "data.sources.mine.stages=[pretrain]"))
