"""The verb on a small model: it passes what is sound, and names what is not."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from rlhf import checkpoint, composing, config
from rlhf.engine.torch_engine import TorchEngine
from rlhf.invariants import command
from rlhf.invariants.truth import typed
from rlhf.invariants.ways import invariances
from rlhf.models.packing import Packing
from rlhf.rollout import sample
from rlhf.stages.batches import Sequences
from rlhf.stages.sft import SFT

SMALL = (
    *(f"{slot}.arch.{size}" for slot in ("model", "reward_model") for size in ("vocab_size=400", "hidden_size=32", "layers=2")),
    *(f"data.sources.{source}.cap=200" for source in ("documents", "demonstrations", "preferences", "prompts")),
    *("sft.batch_size=4", "evaluation.prompts=2", "rollout.max_new_tokens=4"),
)


pytestmark = pytest.mark.usefixtures("one_thread")


def make(*overrides: str) -> DictConfig:
    """The run, composed as the verb does it."""
    config.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        texts = [command.RECIPE, *overrides]
        return composing.Composer().compose(texts)


def tried(outputs: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and what the verb has written, by invariance."""
    composed = make(*SMALL, f"paths.outputs={outputs}", *[word for word in words if not word.startswith("only=")])
    wanted = [name for word in words if word.startswith("only=") for name in word.removeprefix("only=").split(",")]
    code = command.serve(composed, [], wanted)
    (written,) = outputs.glob(f"invariants/*/{command.RESULT}")
    content = json.loads(written.read_text())
    return code, content | {each["name"]: each for each in content["invariances"]}


def test_what_is_sound_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = tried(tmp_path, "stage=sft", "only=micro-batches,padding,KV cache,packing")
    said = capsys.readouterr().out
    assert code == 0 and told["sound"], said
    assert told["moved"] > 0.01  # or it would be easy to agree
    assert {told[name]["verdict"] for name in ("micro-batches", "padding", "KV cache", "packing")} == {"ok"}
    assert [way["way"] for way in told["packing"]["ways"]] == ["all at once", "3 at once"]
    assert "5 updates of 4 rows" in said and "2 answers token-equal" in said
    assert f"every figure is in {tmp_path}/invariants/sft-tiny/invariants.json" in said
    assert os.listdir(tmp_path / "invariants/sft-tiny") == ["invariants.json"]  # what it worked with is gone


def test_a_loss_by_the_tokens_of_the_micro_batch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradient accumulation as most frameworks had it until 2024: each micro-batch's mean counts the same."""
    sound = SFT.loss

    def loss(stage: SFT, batch: Sequences) -> Any:
        losses, metrics = sound(stage, batch)
        return {name: each * 40 / batch.weight for name, each in losses.items()}, metrics

    monkeypatch.setattr(SFT, "loss", loss)
    code, told = tried(tmp_path, "stage=sft", "only=micro-batches,resume")
    said = capsys.readouterr().out
    assert code == 1 and not told["sound"]
    assert told["micro-batches"]["verdict"] == "differs" and told["resume"]["verdict"] == "ok"
    (first, _) = told["micro-batches"]["ways"]
    assert (first["update"], first["tensor"]) == (1, "policy/model.embed_tokens.weight")
    assert "differs    micro-batches  1 at once: update 1: loss is " in said
    assert "first tensor: policy/model.embed_tokens.weight" in said


@pytest.mark.slow
def test_texts_of_a_row_that_see_each_other_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing as it is done most, with a mask of whole rows."""
    sound = Packing.attention
    monkeypatch.setattr(Packing, "attention", lambda packing, kind: torch.ones_like(sound(packing, kind)).tril())
    code, told = tried(tmp_path, "stage=sft", "only=packing,padding")
    assert code == 1 and told["padding"]["verdict"] == "ok"
    assert [way["verdict"] for way in told["packing"]["ways"]] == ["differs", "differs"]


@pytest.mark.slow
def test_padding_that_is_learnt_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed-Chat's loss of its first 17 months."""
    sound = SFT.loss

    def loss(stage: SFT, batch: Sequences) -> Any:
        everything = torch.ones_like(batch.targets)
        everything[:, 0] = False
        return sound(stage, replace(batch, targets=everything))

    monkeypatch.setattr(SFT, "loss", loss)
    code, told = tried(tmp_path, "stage=sft", "only=padding")
    assert code == 1 and told["padding"]["verdict"] == "differs"
    assert {way["update"] for way in told["padding"]["ways"]} == {1}


def test_one_tensor_that_is_not_resumed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its moments are lost, which shows in its weights after the next update and everywhere one later."""
    lost = "policy/exp_avg/model.layers.1.mlp.up_proj.weight"
    sound = TorchEngine.load

    def load(engine: TorchEngine, tensors: dict[str, torch.Tensor], steps: int) -> None:
        sound(engine, {**tensors, lost: torch.zeros_like(tensors[lost])}, steps)

    monkeypatch.setattr(TorchEngine, "load", load)
    code, told = tried(tmp_path, "stage=sft", "only=resume")
    assert code == 1 and told["resume"]["verdict"] == "differs"
    (way,) = told["resume"]["ways"]
    assert (way["update"], way["tensor"]) == (3, lost.replace("exp_avg/", ""))
    assert "1 of 20 tensors differ)" in way["why"]


@pytest.mark.slow
def test_a_way_that_breaks_ends_neither_the_others_nor_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*_: object) -> None:
        raise RuntimeError("disk full\nand more")

    monkeypatch.setattr(checkpoint, "save", save)
    code, told = tried(tmp_path, "stage=sft", "only=resume,KV cache")
    assert code == 1 and told["KV cache"]["verdict"] == "ok" and told["resume"]["verdict"] == "broke"
    assert told["resume"]["said"] == "after update 2: RuntimeError: disk full"


@pytest.mark.slow
def test_answers_that_are_not_the_likeliest_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = sample.draw
    monkeypatch.setattr(sample, "draw", lambda logits, *rest: draw(logits, *rest)._replace(tokens=logits.argsort(-1)[:, -2]))
    code, told = tried(tmp_path, "stage=sft", "only=KV cache,log-probs")
    assert code == 1 and told["log-probs"]["verdict"] == "ok"
    assert told["KV cache"]["said"].startswith("recomputed: greedy answers part: token 1 of answer 1 is ")


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["sft.epoch=5"], "sft.epoch=5: there is no key `sft.epoch`; did you mean `sft.epochs`?"),
        (["only=micro-batch"], "only=micro-batch: there is no such invariance; did you mean `micro-batches`?"),
        (["debug=smoke"], "debug=smoke: the verb brings its own sizes (debug=invariants); leave it out"),
        (["stage"], "stage: settings are written key=value; write python -m rlhf invariants stage=sft"),
    ],
)
def test_a_wrong_word_is_a_fault(words: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*words, f"paths.outputs={tmp_path}"]) == 2
    assert fault in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_changes_the_numbers_by_design_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("stage=sft", "precision=bf16", "device=auto", "model.dropout=0.1", "sft.micro_batch_size=3")
    assert command.serve(make(*words, f"paths.outputs={tmp_path}"), [], []) == 2
    said = capsys.readouterr().err
    assert "precision=bf16: only in fp32 do all engines compute the same; leave it out" in said
    assert "model.dropout=0.1: every way would draw other masks; leave it out" in said
    assert "sft.micro_batch_size=3 does not divide sft.batch_size=8" in said
    assert list(tmp_path.iterdir()) == []


def test_the_names_are_those_that_are_tried() -> None:
    found = invariances(typed(make("stage=sft")), 8, 5, policy=True, paddable=True)
    assert tuple(each.name for each in found) == command.NAMES


def test_only_a_stage_that_can_do_without_is_tried_with_packing() -> None:
    found = invariances(typed(make("stage=rm")), 8, 5, policy=False, paddable=True)[-1]
    assert (found.name, found.ways) == ("packing", ())
    assert found.why_not == "stage=rm has no choice between packed rows and padded ones"


@pytest.mark.slow
@pytest.mark.parametrize("stage", config.STAGES)
def test_every_stage_is_sound_in_every_way(stage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = tried(tmp_path, f"stage={stage}")
    assert code == 0, capsys.readouterr().out
    policy = ("log-probs", "KV cache") if stage != "rm" else ()
    for name in ("micro-batches", "padding", "checkpointing", "resume", "ranks", "ZeRO", "offload", *policy):
        assert told[name]["verdict"] == "ok" and all(way["verdict"] == "ok" for way in told[name]["ways"]), told[name]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["opt", "gpt_neox"])
def test_biases_of_keys_do_not_raise_an_alarm(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The softmax cancels them, so their gradients are rounding, of which Adam makes whole steps."""
    code, told = tried(tmp_path, "stage=sft", f"model.arch.family={family}", "only=micro-batches,padding,packing,ranks")
    assert code == 0, capsys.readouterr().out
    assert told["sound"]
