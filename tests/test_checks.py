"""Faults across fields: each rule with a value that breaks it, and what the message must name."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlhf import checks, config, preflight
from rlhf.config import Run


def faults(*overrides: str) -> list[str]:
    config.register()
    companions = preflight.check(list(overrides)).companions
    with initialize_config_dir(str(config.CONF), version_base="1.3"):
        run = OmegaConf.to_object(compose("config", [*overrides, *companions]))
    assert isinstance(run, Run)
    return checks.faults(run)


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
        ("model.freeze_layers=4", "model.freeze_layers=4: must be at least 0 and at most 3, the layers of model=tiny"),
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
        ("model.arch.rope_theta=null", "model.arch.rope_theta=None: llama turns by position and needs one above 0"),
        ("model.dropout=1.0", "model.dropout=1.0: must be at least 0 and below 1"),
        ("model.arch.layers=1", "rm.init=sft: reward_model=tiny must be the same network"),
        ("data.eval_fraction=0", "data.eval_fraction=0.0: must be between 0 and 1"),
        ("data.max_train_examples=0", "data.max_train_examples=0: must be at least 1"),
        ("data.sources.prompts.weight=0", "data.sources.prompts.weight=0.0: must be above 0"),
        ("data.sources.prompts.cap=0", "data.sources.prompts.cap=0: must be at least 1"),
        ("data.sources.prompts.subset=main", "data.sources.prompts.subset=main: goes with path=hub:<id> only"),
        ("data.sources.prompts.files=a.jsonl", "data.sources.prompts.files=a.jsonl: goes with path=hub:<id> only"),
        ("data=alpaca data.sources.alpaca.streaming=true", "streaming=true: needs data.sources.alpaca.cap"),
        ("data.sources.prompts.stages=[dpo]", "there is no stage `dpo`; choose from pretrain, sft, rm, ppo"),
        ("rollout.temperature=-1", "rollout.temperature=-1.0: must be 0 (greedy) or above"),
        ("rollout.top_p=0", "rollout.top_p=0.0: must be above 0 and at most 1"),
        ("rollout.max_new_tokens=0", "rollout.max_new_tokens=0: must be at least 1"),
        ("sft.max_length=100000", "sft.max_length=100000: longer than the"),
        ("sft.micro_batch_size=7", "sft.micro_batch_size=7 does not divide sft.batch_size"),
        ("sft.batch_size=0", "both must be at least 1"),
        ("rm.learning_rate=0", "rm.learning_rate=0.0: must be above 0"),
        ("rm.max_steps=0", "rm.max_steps=0: must be at least 1, or null"),
        ("ppo.minibatches=3", "ppo.minibatches=3 does not divide ppo.batch_size=128"),
        ("ppo.normalization_prompts=1", "ppo.normalization_prompts=1: must be at least 2"),
        ("ppo.kl_coef=-0.1", "ppo.kl_coef=-0.1: must not be negative"),
        ("ppo.critic_warmup=20", "ppo.critic_warmup=20: must be below ppo.updates=20"),
        ("sft.adam_beta1=2", "sft.adam_beta1=2.0: must be at least 0 and below 1"),
        ("sft.weight_decay=-1", "sft.weight_decay=-1.0: must be 0 or above"),
        ("sft.warmup_steps=-5", "sft.warmup_steps=-5: must be 0 or above"),
        ("sft.schedule_power=0", "sft.schedule_power=0.0: must be above 0"),
        ("ppo.schedule_cycles=0", "ppo.schedule_cycles=0: must be at least 1"),
        ("rm.save_every=-1", "rm.save_every=-1: must be 0 or above"),
        ("sft.learning_rate=inf", "sft.learning_rate=inf: must be a finite number"),
        ("evaluation.samples=0", "evaluation.samples=0: must be at least 1"),
        ("ppo.entropy_coef=-1", "ppo.entropy_coef=-1.0: must not be negative"),
        ("rm.score_l2=-1", "rm.score_l2=-1.0: must not be negative"),
        ("lora.dim=-1", "lora.dim=-1: must be at least 0"),
        ("lora.alpha=0", "lora.alpha=0.0: must be above 0"),
        ("reward_lora.targets=[]", "reward_lora.targets=[]: names no layer"),
        ("early_stop.patience=0", "early_stop.patience=0: must be at least 1"),
        ("early_stop.patience=3", "ppo.eval_every=0: early_stop.patience=3 needs evaluations on the way"),
        ("sft.keep_best=true", "sft.eval_every=0: sft.keep_best=true needs evaluations on the way"),
        ("early_stop.min_delta=-1", "early_stop.min_delta=-1.0: must be 0 or above"),
        ("early_stop.max_kl=0", "early_stop.max_kl=0.0: must be above 0"),
        ("stage=sft early_stop.max_kl=5", "early_stop.max_kl=5.0: stage=sft has no such KL"),
        ("ppo.kl_target=0", "ppo.kl_target=0.0: must be above 0"),
        ("ppo.kl_target=6 ppo.kl_coef=0", "ppo.kl_coef=0: an adaptive coefficient"),
        ("ppo.kl_target=6 ppo.kl_horizon=1", "ppo.kl_horizon=1: must be at least ppo.batch_size=128"),
        ("ppo.value_lambda=2", "ppo.value_lambda=2.0: must be between 0 and 1"),
        ("ppo.max_update_kl=0", "ppo.max_update_kl=0.0: must be above 0"),
        ("ppo.ptx_coef=-1", "ppo.ptx_coef=-1.0: must not be negative"),
        ("ppo.ema_decay=1", "ppo.ema_decay=1.0: must be at least 0 and below 1"),
        ("reward=function reward.function=length", "reward.target_words=null: reward.function=length needs"),
        ("reward=function reward.function=regex", "reward.pattern=null: reward.function=regex needs"),
        ("reward=function reward.function=regex reward.pattern='['", "reward.pattern=[: is no regular expression"),
        ("reward=function reward.function=answer reward.pattern=a", "takes the answer from the first group"),
        ("reward=file reward.path=my.py", "reward.path=my.py: write the file, a colon and the function"),
        ("reward=file reward.path=nowhere.py:score", "reward.path=nowhere.py:score: there is no file"),
        ("reward=http reward.url=localhost", "reward.url=localhost: is no address"),
        ("reward=http reward.url=http://example.org/", "would send prompts and responses to another machine"),
        ("reward=http reward.url=http://localhost/ reward.timeout=0", "reward.timeout=0.0: must be above 0"),
        ("reward=function reward.function=answer ppo.critic_init=reward_model", "there is none with reward=function"),
        (
            "reward=function reward.function=answer parents.rm=org/model",
            "stage=ppo with reward=function does not start from one",
        ),
        ("ppo.gamma=1.1", "ppo.gamma=1.1: must be between 0 and 1"),
        ("parents.rm=/nowhere", "parents.rm=/nowhere: there is no such folder"),
        ("parents.sft=a/b/c", "parents.sft=a/b/c: there is no such folder"),
        ("stage=sft parents.sft=org/model", "parents.sft=org/model: stage=sft does not start from one"),
        ("stage=rm rm.init=base parents.sft=org/model", "stage=rm with rm.init=base does not start from one"),
    ],
)
def test_a_broken_rule_is_named(override: str, fault: str) -> None:
    found = faults(*override.split())
    assert any(fault in each for each in found), found


def test_parents_that_are_there_or_on_the_hub_are_no_fault(tmp_path: Path) -> None:
    assert faults(f"parents.sft={tmp_path}", "parents.rm=org/model") == []


def test_the_folder_of_a_run_is_not_its_model(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    assert any(f"name the model in it: parents.sft={tmp_path}/artifact" in each for each in faults(f"parents.sft={tmp_path}"))
