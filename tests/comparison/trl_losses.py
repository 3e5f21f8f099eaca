"""TRL 1.16's losses for SFT, reward model and preferences: its own collators and loss methods, on given networks."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer, SFTTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference as PreferenceCollator
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference as LabelCollator
from trl.trainer.reward_trainer import DataCollatorForPreference as RewardCollator
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
from trl.trainer.utils import add_fused_lm_head

from tests.comparison.inputs import MARGINS, PAD, labelled_answers, pairs, policy, scorer

FUSED = ("log_probs", "entropy", "mean_logits", "is_top1")
BETA, GAMMA, SMOOTHING, CENTRE = 0.3, 0.6, 0.1, 0.01


def record() -> dict[str, dict[str, Any]]:
    """Loss and norm of its gradient for each."""
    return {
        "sft, responses": sft(prompts=False),
        "sft, everything": sft(prompts=True),
        "rm": rm(),
        "rm, margins": rm(margins=True),
        "rm, centred": rm(centre=CENTRE),
        "dpo": dpo(["sigmoid"]),
        "dpo with likelihood": dpo(["sigmoid", "sft"], [1.0, 0.5]),
        "dpo, averaged": dpo(["sigmoid_norm"]),
        "ipo": dpo(["ipo"]),
        "smoothed, without reference": cpo("sigmoid", SMOOTHING),
        "simpo": cpo("simpo"),
        "orpo": orpo(),
        "kto": kto("kto"),
        "kto, weighed": kto("kto", 1.3, 0.7),
        "kto, no reference point": kto("apo_zero_unpaired"),
    }


def sft(prompts: bool) -> dict[str, Any]:
    """Fine-tuning on the better answers, with or without their prompts among the targets."""
    network = policy()
    add_fused_lm_head(network, outputs=FUSED)
    trainer = bare(SFTTrainer, network, loss_type="nll", average_tokens_across_devices=True)
    rows = [(prompt, better) for prompt, better, _ in pairs()]
    examples = [
        {"input_ids": prompt + answer, "labels": (prompt if prompts else [-100] * len(prompt)) + answer}
        for prompt, answer in rows
    ]
    inputs = DataCollatorForLanguageModeling(pad_token_id=PAD)(examples)
    return measured(network, trainer.compute_loss(network, inputs), trainer)


def rm(margins: bool = False, centre: float | None = None) -> dict[str, Any]:
    """The reward model's loss."""
    network = scorer()
    trainer = bare(RewardTrainer, network, center_rewards_coefficient=centre)
    examples: list[dict[str, Any]] = [
        {"chosen_ids": prompt + better, "rejected_ids": prompt + worse} | ({"margin": margin} if margins else {})
        for (prompt, better, worse), margin in zip(pairs(), MARGINS, strict=True)
    ]
    return measured(network, trainer.compute_loss(network, RewardCollator(pad_token_id=PAD)(examples)), trainer)


def dpo(losses: list[str], weights: list[float] | None = None) -> dict[str, Any]:
    """Losses of its DPO trainer, added up with ``weights``."""
    network, reference = policy(), policy("reference")
    add_fused_lm_head(network, outputs=FUSED)
    add_fused_lm_head(reference)
    trainer = bare(DPOTrainer, network, gradient_checkpointing_kwargs=None)
    trainer.ref_model, trainer.precompute_ref_logps, trainer.ld_alpha = reference, False, None
    trainer.f_divergence_type, trainer.use_weighting, trainer.beta = "reverse_kl", False, BETA
    trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = losses, weights or [1.0], 0.0
    examples = [{"prompt_ids": prompt, "chosen_ids": better, "rejected_ids": worse} for prompt, better, worse in pairs()]
    return measured(network, trainer._compute_loss(network, PreferenceCollator(pad_token_id=PAD)(examples), False), trainer)


def kto(loss: str, good_weight: float = 1.0, bad_weight: float = 1.0) -> dict[str, Any]:
    """A loss of its KTO trainer on the pairs taken apart; the other policy learns, or its KL would be cut to 0."""
    network, reference = policy("reference"), policy()
    add_fused_lm_head(network, outputs=FUSED)
    add_fused_lm_head(reference)
    trainer = bare(KTOTrainer, network, gradient_checkpointing_kwargs=None)
    trainer.ref_model, trainer.precompute_ref_logps, trainer.beta, trainer.loss_type = reference, False, BETA, loss
    trainer.calculate_KL, trainer.desirable_weight, trainer.undesirable_weight = loss == "kto", good_weight, bad_weight
    rows = labelled_answers()[::-1]  # its mismatched answer is that of the row before, ours as published that of the next
    examples: list[dict[str, Any]] = [
        {"prompt_ids": prompt, "completion_ids": answer, "label": good, "KL_completion_ids": rows[place - 1][1]}
        for place, (prompt, answer, good) in enumerate(rows)
    ]
    return measured(network, trainer._compute_loss(network, LabelCollator(pad_token_id=PAD)(examples), False), trainer)


def cpo(loss: str, smoothing: float = 0.0) -> dict[str, Any]:
    """A loss of its CPO trainer, without the likelihood; none has a reference."""
    network = policy()
    trainer = bare(CPOTrainer, network)
    trainer.loss_type, trainer.beta, trainer.simpo_gamma, trainer.cpo_alpha, trainer.alpha = loss, BETA, GAMMA, 0.0, 0.0
    trainer.label_smoothing, trainer.pad_token_id, trainer.is_encoder_decoder = smoothing, PAD, False
    loss_, metrics = trainer.get_batch_loss_metrics(network, labelled())
    return measured(network, loss_) | metrics


def orpo() -> dict[str, Any]:
    """The loss of its ORPO trainer."""
    network = policy()
    trainer = bare(ORPOTrainer, network)
    trainer.beta, trainer.padding_value, trainer.is_encoder_decoder = BETA, PAD, False
    loss, metrics = trainer.get_batch_loss_metrics(network, labelled())
    return measured(network, loss) | metrics


def bare(kind: type, network: torch.nn.Module, **args: object) -> Any:
    """A trainer with nothing but what its loss reads."""
    trainer = object.__new__(kind)
    trainer.model, trainer.args = network, SimpleNamespace(**args)
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda value: value, gather_for_metrics=lambda value: value, parallelism_config=None
    )
    trainer._metrics = {mode: defaultdict(list) for mode in ("train", "eval")}
    trainer._total_train_tokens, trainer._tp_size, trainer.aux_loss_enabled = 0, 1, False
    trainer.compute_loss_func = trainer.label_smoother = None
    return trainer


def measured(network: torch.nn.Module, loss: torch.Tensor, trainer: Any = None) -> dict[str, Any]:
    """The loss, the norm of its gradient, and what the trainer tells beside."""
    loss.backward()
    norm = torch.stack([each.grad.norm() for each in network.parameters() if each.grad is not None]).norm()
    told = {} if trainer is None else {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    return {"loss": loss, "gradient norm": norm} | told


def labelled() -> dict[str, torch.Tensor]:
    """The batch its older trainers take: padded ids, attention masks, and labels of the answers."""
    batch = {}
    for name, place in (("chosen", 1), ("rejected", 2)):
        rows = [(row[0], row[place]) for row in pairs()]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        padding = [width - len(prompt) - len(answer) for prompt, answer in rows]
        batch |= {
            f"{name}_input_ids": [p + a + [PAD] * n for (p, a), n in zip(rows, padding, strict=True)],
            f"{name}_attention_mask": [[1] * (width - n) + [0] * n for n in padding],
            f"{name}_labels": [[-100] * len(p) + a + [-100] * n for (p, a), n in zip(rows, padding, strict=True)],
        }
    return {name: torch.tensor(rows) for name, rows in batch.items()}
