"""Faults across fields: each rule with a value that breaks it, and what the message must name."""

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlhf import bounds, checks, config, preflight, stage_checks
from rlhf.config import Run


def composed(*overrides: str) -> Run:
    config.register()
    companions = preflight.check(list(overrides)).companions
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        run = OmegaConf.to_object(compose("config", [*overrides, *companions]))
    assert isinstance(run, Run)
    return run


def faults(*overrides: str) -> list[str]:
    return checks.faults(composed(*overrides))


def numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Each field that holds a number: its key, the object it is in, its name."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        for name, inner in value.items() if isinstance(value, dict) else [("", value)]:
            if dataclasses.is_dataclass(inner):
                yield from numbers(inner, f"{prefix}{item.name}.{name}{'.' * bool(name)}")
        if {int, float} & {*typing.get_args(kinds(config)[item.name]), kinds(config)[item.name]}:
            yield prefix + item.name, config, item.name


def kinds(config: Any) -> dict[str, Any]:
    return typing.get_type_hints(type(config))


def test_the_default_run_is_sound() -> None:
    assert faults() == []


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("sweep.pruner=asha", "sweep.pruner=asha: judges evaluations on the way, and ppo.eval_every=0 makes none"),
        ("sweep.reduction=1", "sweep.reduction=1: must be at least 2"),
        ("sweep.min_rung=0", "sweep.min_rung=0: must be at least 1"),
        ("sweep.verdict_seconds=900", "sweep.verdict_seconds=900.0: must be above 0 and at most 300"),
        ("offload=optimizer", "offload=optimizer: needs zero=1, 2 or 3, and zero is none"),
        ("offload=optimizer zero=0", "offload=optimizer: needs zero=1, 2 or 3, and zero is 0"),
        ("offload=all zero=2", "offload=all: needs zero=3, and zero is 2"),
        ("offload=nvme zero=2", "offload=nvme: needs zero=3, and zero is 2"),
        ("offload=nvme zero=3", "offload=nvme: needs deepspeed.nvme_path"),
        ("offload=nvme zero=3 deepspeed.nvme_path=/nowhere", "deepspeed.nvme_path=/nowhere: there is no such folder"),
        ("deepspeed.nvme_path=/tmp", "deepspeed.nvme_path=/tmp: has no effect without offload=nvme"),
        ("precision=fp16 device=cpu", "precision=fp16: needs a GPU; use precision=fp32"),
        ("fp32_loss=false", "fp32_loss=false: has no effect with precision=fp32"),
        ("lora.quantize=nf4", "lora.quantize=nf4: packed weights cannot be trained; add adapters"),
        ("lora=dim8 lora.quantize=nf4 zero=1", "lora.quantize=nf4: needs zero=none, and zero is 1"),
        ("model.freeze_layers=4", "model.freeze_layers=4: model=tiny has 3 layers; freeze fewer"),
        ("reward_model.freeze_layers=-1", "reward_model.freeze_layers=-1: must be at least 0"),
        ("lora=dim8 model.freeze_layers=1", "model.freeze_layers=1: lora freezes all weights and trains adapters"),
        ("reward_lora=dim8 reward_model.freeze_embeddings=true", "reward_model.freeze_embeddings=true: reward_lora freezes"),
        ("sft.optimizer=adamw_8bit zero=2", "sft.optimizer=adamw_8bit: needs zero=none, and zero is 2"),
        ("ppo.reference_device=gpu1", "ppo.reference_device=gpu1: must be auto, cpu, or a GPU by its number"),
        ("ppo.reward_device=cuda:1 device=cpu", "ppo.reward_device=cuda:1: there is no GPU with device=cpu"),
        ("ppo.reward_device=cuda:1 zero=3", "ppo.reward_device=cuda:1: needs ranks=1 and zero below 3"),
        ("ppo.reference_device=cpu lora=dim8", "ppo.reference_device=cpu: with adapters the policy is its own reference"),
        ("ranks=0", "ranks=0: must be at least 1"),
        ("ranks=2", "ranks=2: zero=none is one device; use zero=0"),
        ("zero=0 ranks=3", "ranks=3 does not divide sft.batch_size"),
        ("zero=0 ranks=2", "ppo.micro_batch_size=64 does not divide ppo.batch_size / minibatches=64 (32 for each of ranks=2)"),
        ("model.path=null model.arch=null", "model.path=null: a model without a path needs model.arch"),
        ("model.arch.heads=7", "model.arch.heads=7 does not divide model.arch.hidden_size"),
        ("model.arch.kv_heads=3", "model.arch.kv_heads=3 does not divide model.arch.heads=4"),
        ("model.arch.family=bloom", "model.arch.ffn_size=256: bloom has no other than 4 * hidden_size; use 384"),
        ("model.arch.rope_theta=null", "model.arch.rope_theta=null: llama turns by position and needs a base"),
        ("model.dropout=1.0", "model.dropout=1.0: must be at least 0 and below 1"),
        ("model.arch.layers=1", "rm.init=sft: reward_model=tiny must be the same network"),
        ("data.eval_fraction=0", "data.eval_fraction=0.0: must be above 0 and below 1"),
        ("data.max_train_examples=0", "data.max_train_examples=0: must be at least 1"),
        ("data.sources.prompts.weight=0", "data.sources.prompts.weight=0.0: must be above 0"),
        ("data.sources.prompts.cap=0", "data.sources.prompts.cap=0: must be at least 1"),
        ("data.sources.prompts.split=test", "data.sources.prompts.split=test: goes with path=hub:<id> only"),
        ("data.sources.prompts.subset=main", "data.sources.prompts.subset=main: goes with path=hub:<id> only"),
        ("data.sources.prompts.files=a.jsonl", "data.sources.prompts.files=a.jsonl: goes with path=hub:<id> only"),
        ("data=alpaca data.sources.alpaca.streaming=true", "streaming=true: needs data.sources.alpaca.cap"),
        ("data.sources.prompts.stages=[raft]", "there is no stage `raft`; choose from pretrain, sft, rm, ppo"),
        ("data.sources.prompts.stages=[dpo]", "dpo learns from what stage `rm` has; choose from pretrain, sft, rm, ppo"),
        ("stage=dpo dpo.reference_device=gpu", "dpo.reference_device=gpu: must be auto, cpu, or a GPU by its number"),
        ("stage=dpo dpo.label_smoothing=0.5", "dpo.label_smoothing=0.5: must be at least 0 and below 0.5"),
        ("stage=rloo rloo.group_size=3", "rloo.group_size=3 does not divide rloo.batch_size=256; choose a batch that is a"),
        ("stage=grpo grpo.minibatches=3", "grpo.minibatches=3 does not divide grpo.batch_size=256"),
        ("stage=best_of_n best_of_n.n=1", "best_of_n.n=1: must be at least 2"),
        ("stage=best_of_n rollout.temperature=0", "rollout.temperature=0: the responses to a prompt would all be the same one"),
        (
            "stage=best_of_n early_stop.max_kl=5",
            "early_stop.max_kl=5.0: stage=best_of_n has no such KL; it is for ppo, rloo, grpo",
        ),
        ("stage=grpo grpo.group_size=1", "grpo.group_size=1: must be at least 2"),
        (
            "stage=kto kto.batch_size=1 kto.micro_batch_size=1",
            "kto.batch_size=1: kto.reference_point=batch needs the answer of",
        ),
        ("stage=kto kto.desirable_weight=0 kto.undesirable_weight=0", "kto.undesirable_weight=0: with kto.desirable_weight=0"),
        ("stage=dpo dpo.beta=0", "dpo.beta=0.0: must be above 0"),
        ("stage=dpo model.dropout=0.1 dpo.gradient_checkpointing=true", "model.dropout=0.1: must be 0 with dpo.gradient"),
        ("rollout.temperature=-1", "rollout.temperature=-1.0: must be at least 0"),
        ("rollout.top_p=0", "rollout.top_p=0.0: must be above 0 and at most 1"),
        ("rollout.max_new_tokens=0", "rollout.max_new_tokens=0: must be at least 1"),
        ("sft.max_length=100000", "sft.max_length=100000: longer than the"),
        ("model=bloom560m sft.packing=true", "sft.packing=true: model=bloom560m is a bloom, and only llama, opt"),
        ("sft.packing=true sft.legacy_padding_loss=true", "sft.legacy_padding_loss=true: learns the padding of each row"),
        ("sft.micro_batch_size=7", "sft.micro_batch_size=7 does not divide sft.batch_size"),
        ("sft.batch_size=0", "sft.batch_size=0: must be at least 1"),
        ("rm.learning_rate=0", "rm.learning_rate=0.0: must be above 0"),
        ("rm.max_steps=0", "rm.max_steps=0: must be at least 1, or null"),
        ("rm.loss=tokenwise rm.pooling=mean", "rm.pooling=mean: rm.loss=tokenwise trains the score of each token"),
        ("ppo.minibatches=3", "ppo.minibatches=3 does not divide ppo.batch_size=128"),
        ("ppo.normalization_prompts=1", "ppo.normalization_prompts=1: must be at least 2"),
        ("ppo.kl_coef=-0.1", "ppo.kl_coef=-0.1: must be at least 0"),
        ("ppo.critic_warmup=20", "ppo.critic_warmup=20: must be below ppo.updates=20"),
        ("ppo.capture_step=21", "ppo.capture_step=21: the run has ppo.updates=20; choose one from 1 to 20"),
        ("sft.adam_beta1=2", "sft.adam_beta1=2.0: must be at least 0 and below 1"),
        ("sft.weight_decay=-1", "sft.weight_decay=-1.0: must be at least 0"),
        ("sft.warmup_steps=-5", "sft.warmup_steps=-5: must be at least 0"),
        ("sft.schedule_power=0", "sft.schedule_power=0.0: must be above 0"),
        ("ppo.schedule_cycles=0", "ppo.schedule_cycles=0: must be at least 1"),
        ("rm.save_every=-1", "rm.save_every=-1: must be at least 0"),
        ("sft.learning_rate=inf", "sft.learning_rate=inf: must be a finite number"),
        ("evaluation.samples=0", "evaluation.samples=0: must be at least 1"),
        ("ppo.entropy_coef=-1", "ppo.entropy_coef=-1.0: must be at least 0"),
        ("rm.score_l2=-1", "rm.score_l2=-1.0: must be at least 0"),
        ("lora.dim=-1", "lora.dim=-1: must be at least 0"),
        ("lora.alpha=0", "lora.alpha=0.0: must be above 0"),
        ("reward_lora.targets=[]", "reward_lora.targets=[]: names no layer"),
        ("early_stop.patience=0", "early_stop.patience=0: must be at least 1"),
        ("early_stop.patience=3", "ppo.eval_every=0: early_stop.patience=3 needs evaluations on the way"),
        ("sft.keep_best=true", "sft.eval_every=0: sft.keep_best=true needs evaluations on the way"),
        (
            "stage=sft early_stop.metric=eval/perplexitty",
            "no evaluation of stage=sft measures it; did you mean eval/perplexity?",
        ),
        ("stage=pretrain early_stop.metric=nonsense", "stage=pretrain measures it; choose from eval/loss, eval/perplexity"),
        (
            "stage=rm early_stop.metric=eval/accuracy/nobody",
            "no evaluation of stage=rm measures it; did you mean eval/accuracy?",
        ),
        ("early_stop.metric=eval/loss", "no evaluation of stage=ppo measures it"),
        ("early_stop.metric=eval/kl", "early_stop.goal=null: which way early_stop.metric=eval/kl is better depends"),
        (
            "stage=sft early_stop.metric=eval/loss early_stop.goal=maximize",
            "early_stop.goal=maximize: eval/loss is better the other",
        ),
        ("early_stop.min_delta=-1", "early_stop.min_delta=-1.0: must be at least 0"),
        ("early_stop.max_kl=0", "early_stop.max_kl=0.0: must be above 0"),
        ("stage=sft early_stop.max_kl=5", "early_stop.max_kl=5.0: stage=sft has no such KL"),
        ("ppo.kl_target=0", "ppo.kl_target=0.0: must be above 0"),
        ("ppo.reward_clip=-1", "ppo.reward_clip=-1.0: must be above 0, or null"),
        ("ppo.value_clip_range=-0.2", "ppo.value_clip_range=-0.2: must be above 0, or null"),
        ("ppo.kl_coef=nan", "ppo.kl_coef=nan: must be a finite number at least 0"),
        ("ppo.missing_eos_penalty=-3", "ppo.missing_eos_penalty=-3.0: must be at least 0"),
        ("sft.epochs=inf", "sft.epochs=inf: must be a finite number above 0"),
        ("sft.max_grad_norm=nan", "sft.max_grad_norm=nan: must be above 0"),
        ("sft.final_lr_fraction=2", "sft.final_lr_fraction=2.0: must be at least 0 and at most 1"),
        ("deepspeed.reduce_bucket_size=-1", "deepspeed.reduce_bucket_size=-1: must be at least 1"),
        ("hardware.memory_gib=-1", "hardware.memory_gib=-1.0: must be above 0, or null"),
        ("hardware.usd_per_hour=-3", "hardware.usd_per_hour=-3.0: must be at least 0, or null"),
        ("data.max_bad_fraction=2", "data.max_bad_fraction=2.0: must be at least 0 and at most 1"),
        ("model.arch.heads=0", "model.arch.heads=0: must be at least 1"),
        ("seed=-1", "seed=-1: must be at least 0 and at most 4294967295"),
        ("ppo.kl_target=6 ppo.kl_coef=0", "ppo.kl_coef=0: an adaptive coefficient"),
        ("ppo.kl_target=6 ppo.kl_horizon=1", "ppo.kl_horizon=1: must be at least ppo.batch_size=128"),
        ("ppo.value_lambda=2", "ppo.value_lambda=2.0: must be at least 0 and at most 1"),
        ("ppo.max_update_kl=0", "ppo.max_update_kl=0.0: must be above 0"),
        ("ppo.ptx_coef=-1", "ppo.ptx_coef=-1.0: must be at least 0"),
        ("ppo.ema_decay=1", "ppo.ema_decay=1.0: must be at least 0 and below 1"),
        ("reward=function reward.function=length", "reward.target_words=null: reward.function=length needs"),
        ("reward=function reward.function=regex", "reward.pattern=null: reward.function=regex needs"),
        ("reward=function reward.function=regex reward.pattern='['", "reward.pattern=[: is no regular expression"),
        ("reward=function reward.function=answer reward.pattern=a", "takes the answer from the first group"),
        ("reward=file reward.path=my.py", "reward.path=my.py: write the file, a colon and the function"),
        ("reward=file reward.path=nowhere.py:score", "reward.path=nowhere.py:score: there is no file"),
        ("reward=http reward.url=localhost", "reward.url=localhost: is no address"),
        ("reward=http reward.url=http://127.0.0.1:x/", "reward.url=http://127.0.0.1:x/: is no address"),
        ("reward=http reward.url=http://127.0.0.1:99999/", "reward.url=http://127.0.0.1:99999/: is no address"),
        ("reward=http reward.url=http://example.org/", "would send prompts and responses to another machine"),
        ("reward=http reward.url=http://localhost/ reward.timeout=0", "reward.timeout=0.0: must be above 0"),
        ("reward=function reward.function=answer ppo.critic_init=reward_model", "there is none with reward=function"),
        (
            "reward=function reward.function=answer parents.rm=org/model",
            "stage=ppo with reward=function does not start from one",
        ),
        ("ppo.gamma=1.1", "ppo.gamma=1.1: must be at least 0 and at most 1"),
        ("parents.rm=/nowhere", "parents.rm=/nowhere: there is no such folder"),
        ("parents.sft=a/b/c", "parents.sft=a/b/c: there is no such folder"),
        ("stage=sft parents.sft=org/model", "parents.sft=org/model: stage=sft does not start from one"),
        ("stage=rm rm.init=base parents.sft=org/model", "stage=rm with rm.init=base does not start from one"),
    ],
)
def test_a_broken_rule_is_named(override: str, fault: str) -> None:
    found = faults(*override.split())
    assert any(fault in each for each in found), found


def test_a_reward_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_checks.importlib.util, "find_spec", lambda name: None)
    assert "reward.function=sentiment: is not installed; pip install 'rlhf[sentiment]'" in faults(
        "reward=function", "reward.function=sentiment", "tracker=none"
    )


def test_no_number_is_taken_that_is_none_or_without_end() -> None:
    """Every number of the schema; only the largest norm of gradients may be infinite."""
    run, tried = composed(), 0
    for key, holder, name in numbers(run):
        before = getattr(holder, name)
        for value in (float("nan"), float("inf"), float("-inf")):
            setattr(holder, name, value)
            told = [fault for fault in bounds.faults(run) if fault.startswith(f"{key}={value}: must be")]
            assert told or (name == "max_grad_norm" and value == float("inf")), (key, value)
        setattr(holder, name, before)
        tried += 1
    assert tried > 100


def test_infinity_switches_the_clipping_of_gradients_off() -> None:
    assert faults("sft.max_grad_norm=inf") == []


def test_parents_that_are_there_or_on_the_hub_are_no_fault(tmp_path: Path) -> None:
    assert faults(f"parents.sft={tmp_path}", "parents.rm=org/model") == []


def test_the_folder_of_a_run_is_not_its_model(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    assert any(f"name the model in it: parents.sft={tmp_path}/artifact" in each for each in faults(f"parents.sft={tmp_path}"))
