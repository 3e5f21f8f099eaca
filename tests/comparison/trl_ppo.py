"""TRL 1.12's PPO trainer on given tensors: its own ``train``, with networks that say what they are told to.

TRL 1.13 has no PPO any more (huggingface/trl pull request 7020).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from trl.experimental.ppo import ppo_trainer
from trl.experimental.ppo.ppo_trainer import PPOTrainer

from tests.comparison.inputs import EOS, PAD, PPO_SETTINGS, Rollout

DEFAULTS: dict[str, object] = {
    "num_ppo_epochs": 1,
    "num_mini_batches": 1,
    "gradient_accumulation_steps": 1,
    "num_total_batches": 1,
    "num_sample_generations": 0,
    "response_length": 7,
    "logging_steps": 1,
    "eval_steps": None,
    "save_steps": None,
    "ds3_gather_for_generation": False,
    "kl_estimator": "k1",
    "kl_coef": 0.05,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
    "gamma": 1.0,
    "lam": 0.95,
    "whiten_rewards": False,
    "missing_eos_penalty": None,
}
"""Those of its configuration that the update reads."""


def record() -> dict[str, dict[str, Any]]:
    """What one update makes of the rollout, under each of the settings."""
    return {name: update(Rollout(), settings) for name, settings in PPO_SETTINGS.items()}


def update(rollout: Rollout, settings: dict[str, object]) -> dict[str, Any]:
    """Metrics of the update, advantages before whitening [B, R], and gradients of the loss for logits taken and values."""
    rows = len(rollout.lengths)
    logits, values = widened(rollout, rollout.logits), widened(rollout, rollout.values[..., None])
    logits.requires_grad_(), values.requires_grad_()
    trainer = object.__new__(PPOTrainer)
    told: dict[str, Any] = {}
    sizes = ("batch_size", "local_batch_size", "local_mini_batch_size", "per_device_train_batch_size")
    given = {name: rows for name in (*sizes, "local_rollout_forward_batch_size", "total_episodes")}
    trainer.args = SimpleNamespace(**DEFAULTS | given | settings, temperature=rollout.temperature)
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        print=lambda *_: None,
        unwrap_model=lambda model: model,
        accumulate=lambda model: nullcontext(),
        backward=lambda loss: loss.backward(),
        gather_for_metrics=lambda value: value,
    )
    trainer.model = SimpleNamespace(
        train=lambda: None, policy=None, value_model="critic", returned=(SimpleNamespace(logits=logits * 1.0), values * 1.0)
    )
    trainer.ref_model = SimpleNamespace(returned=SimpleNamespace(logits=widened(rollout, rollout.reference_logits)))
    trainer.reward_model = "reward model"
    trainer.processing_class = SimpleNamespace(pad_token_id=PAD, eos_token_id=EOS)
    trainer.dataloader = [{"input_ids": torch.tensor(rollout.prompts)}]
    trainer.optimizer = trainer.lr_scheduler = mock.MagicMock()
    trainer.state, trainer.control = SimpleNamespace(), SimpleNamespace(should_save=False)
    trainer.callback_handler = SimpleNamespace(**{name: lambda *_: trainer.control for name in CALLBACKS})
    trainer.train_dataset_len, trainer.is_deepspeed_enabled, trainer.stop_token_id = rows, False, EOS
    trainer.log = told.update
    with networks(rollout, told):
        trainer.train()
    taken = logits.grad[:, rollout.prompt - 1 : -1].gather(-1, rollout.ids[..., None]).squeeze(-1)
    metrics = {name: value for name, value in told.items() if name not in ("eps", "lr", "episode", "val/ratio_var")}
    return metrics | {"logit gradients": taken, "value gradients": values.grad[:, rollout.prompt - 1 : -1, 0]}


CALLBACKS = ("on_train_begin", "on_step_end", "on_save", "on_train_end")


def widened(rollout: Rollout, of_responses: Tensor) -> Tensor:
    """As a network gives it, [B, P + R, ...]: what is said of a token stands at the token before it."""
    rows, _, last = of_responses.shape
    before, behind = torch.zeros(rows, rollout.prompt - 1, last), torch.zeros(rows, 1, last)
    return torch.cat([before, of_responses, behind], 1).clone()


@contextmanager
def networks(rollout: Rollout, told: dict[str, Any]) -> Iterator[None]:
    """Put the rollout's tensors where the trainer asks its networks, and keep the advantages that it whitens."""
    prompts = torch.tensor(rollout.prompts)
    whiten = ppo_trainer.masked_whiten

    def scored(model: object, *_: object) -> tuple[Tensor, Tensor, None]:
        return widened(rollout, rollout.old_values[..., None]), rollout.scores.clone(), None

    def kept(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
        if shift_mean:
            told["advantages before whitening"] = torch.where(mask, values, 0.0)
        return whiten(values, mask, shift_mean)

    sampled = (torch.cat([prompts, rollout.ids], 1), rollout.old_logits / rollout.temperature)
    with (
        mock.patch.object(ppo_trainer, "unwrap_model_for_generation", lambda model, *_, **__: nullcontext(model)),
        mock.patch.object(ppo_trainer, "batch_generation", lambda *_: sampled),
        mock.patch.object(ppo_trainer, "forward", lambda model, *_: model.returned),
        mock.patch.object(ppo_trainer, "get_reward", scored),
        mock.patch.object(ppo_trainer, "masked_whiten", kept),
        mock.patch.object(ppo_trainer.np.random, "permutation", torch.arange),
    ):
        yield
