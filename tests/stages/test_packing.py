"""`sft.packing`: what is learnt and told is the same, and less of what the network reads is padding."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import BertConfig

from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.loop import learn
from rlhf.stages import sft
from rlhf.stages.interface import Stage
from tests.stages import small

PADDING = "perf/padding"


@pytest.mark.parametrize("model", ["tiny", "opt125m", "pythia70m"])
def test_steps_and_evaluations_tell_the_same_but_for_padding(model: str, build: Callable[..., Stage]) -> None:
    settings = (f"model={model}", "sft.warmup_steps=0", "sft.batch_size=8", "sft.micro_batch_size=4")
    settings = (*settings, "data=demo", "data.sources.demonstrations.cap=200")
    told = []
    for packing in ("false", "true"):
        stage = build("sft", f"sft.packing={packing}", *settings)
        engine = stage._setting.engine
        measured = [learn(stage, engine, [batch], index) for index, batch in enumerate(small.record(stage, 2))]
        steps = [each.values_by_name() for each in measured]
        told.append((steps, stage.evaluate(2).metrics.values_by_name()))
    (plain, evaluated), (packed, packed_evaluated) = told
    for row, other in zip(plain, packed, strict=True):
        assert other.pop(PADDING) < row.pop(PADDING) < 1
        assert other == pytest.approx(row, rel=1e-4, abs=1e-5)
    assert packed_evaluated == pytest.approx(evaluated, rel=1e-4, abs=1e-5)


def test_padding_is_counted(build: Callable[..., Stage]) -> None:
    for packing in ("false", "true"):
        stage = build("sft", f"sft.packing={packing}", "sft.max_length=64")
        (batch,) = small.record(stage, 1)
        read = []
        trunk = stage.export()[0].base_model
        hook = trunk.register_forward_pre_hook(
            lambda module, arguments, named, read=read: read.append(named["input_ids"]), with_kwargs=True
        )
        share = stage.loss(batch)[1][PADDING]
        hook.remove()
        (ids,) = read
        assert ids.shape[1] <= 64
        assert (share.count, share.total) == (ids.numel(), ids.numel() - batch.mask.sum().item())


def test_a_network_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = sft.load_policy

    def other(*arguments: object) -> object:
        policy = load(*arguments)
        policy.config.model_type = BertConfig.model_type
        return policy

    monkeypatch.setattr(sft, "load_policy", other)
    run = small.make_run(tmp_path, "stage=sft", "sft.packing=true")
    with pytest.raises(Fault, match="sft.packing=true: model=tiny is a bert, and only llama, opt"):
        small.build(run, TorchEngine(run.device, run.precision, run.deterministic), {})
