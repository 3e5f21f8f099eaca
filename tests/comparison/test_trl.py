"""Our losses beside TRL's, on the same networks and tensors, with padding and several lengths.

What TRL computes was written down by ``record.py``, so these tests need none; where one of the two versions is installed, the
record is made anew and compared. ``DIFFERENCES`` are all there are, each with the keys that make both sides equal.
"""

import functools
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from rlhf.config import Run
from tests.comparison import ours, record
from tests.comparison.inputs import PPO_SETTINGS, Rollout
from tests.stages.small import make_run

LOSSES: dict[str, tuple[str, ...]] = {
    "sft, responses": ("sft",),
    "sft, everything": ("sft", "sft.targets=all"),
    "rm": ("rm",),
    "rm, margins": ("rm", "rm.loss=margin"),
    "rm, centred": ("rm", "rm.center_coef=0.01"),
    "dpo": ("dpo", "dpo.beta=0.3"),
    "dpo with likelihood": ("dpo", "dpo.beta=0.3", "dpo.sft_coef=0.5", "dpo.likelihood=tokens"),
    "dpo, averaged": ("dpo", "dpo.beta=0.3", "dpo.average_logprobs=true"),
    "ipo": ("dpo", "dpo.loss=ipo", "dpo.beta=0.3", "dpo.average_logprobs=true"),
    "simpo": ("dpo", "dpo.loss=simpo", "dpo.beta=0.3", "dpo.margin=0.6"),
    "orpo": ("dpo", "dpo.loss=orpo", "dpo.beta=0.3", "dpo.likelihood=all"),
    "kto": ("kto", "kto.beta=0.3"),
    "kto, weighed": ("kto", "kto.beta=0.3", "kto.desirable_weight=1.3", "kto.undesirable_weight=0.7"),
    "kto, no reference point": ("kto", "kto.beta=0.3", "kto.reference_point=zero"),
}
"""Each loss that was recorded: stage and keys that make it here."""
KTO = ("kto", "kto, weighed", "kto, no reference point")
ALIKE = {"sft, responses", "sft, everything", "rm", "rm, margins", "rm, centred", "dpo", "dpo with likelihood", *KTO}
"""Losses beside which both tell the same; where log-probabilities are averaged, TRL tells rewards of their sums."""

AS_TRL = ("ppo.whiten_unbiased=true", "ppo.score_after_end=true")
PPO_KEYS = {
    "k1": (),
    "k3": ("ppo.kl_estimator=k3",),
    "whitened rewards": ("ppo.whiten_rewards=true",),
    "lambda and gamma": ("ppo.gamma=0.9", "ppo.gae_lambda=0.8", "ppo.missing_eos_penalty=1"),
}
VALUE_WEIGHT = 0.1
"""TRL adds policy and critic losses for one optimizer, this one's times 0.1; here each has an optimizer of its own."""

DIFFERENCES = {
    "the score is paid one step after the end, which the critic values too": "ppo.score_after_end",
    "whitening divides by one token less": "ppo.whiten_unbiased",
    "IPO's margin is a mean over tokens": "dpo.average_logprobs",
    "the likelihood beside a preference loss is a mean over all tokens of the batch": "dpo.likelihood",
    "scores are centred by the squared sum of a pair": "rm.center_coef",
}
EXACT = {"rel": 2e-5, "abs": 2e-6}


def recorded(release: str) -> dict[str, dict[str, Any]]:
    return json.loads(record.path(release).read_text())["measured"]


def of_trl(name: str) -> dict[str, Any]:
    return recorded("1.16.0")[name]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Compose each stage once; keys are then set as on the command line."""

    @functools.cache
    def composed(stage: str) -> Run:
        raw = ("ppo=default", "ppo.reward_normalization=none", "ppo.missing_eos_penalty=0", "ppo.micro_batch_size=8")
        return make_run(tmp_path_factory.mktemp(stage), f"stage={stage}", *(raw if stage == "ppo" else ()))

    def make(stage: str, *keys: str) -> Run:
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(composed(stage)), OmegaConf.from_dotlist(list(keys))))
        assert isinstance(run, Run)
        return run

    return make


def ours_of(run: Run) -> dict[str, float]:
    return {"sft": ours.sft, "rm": ours.rm, "dpo": ours.dpo, "kto": ours.kto}[run.stage](run)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_trls(name: str, run_of: Callable[..., Run]) -> None:
    """The loss, the norm of its gradient, and what both tell beside under the same name."""
    theirs, got = of_trl(name), ours_of(run_of(*LOSSES[name]))
    same = [key for key in got if key in theirs] if name in ALIKE else ["loss", "gradient norm"]
    assert {key: got[key] for key in same} == pytest.approx({key: theirs[key] for key in same}, **EXACT)


def test_smoothed_labels_are_trls() -> None:
    """TRL 1.16 smooths in its CPO trainer alone, without a reference: log-ratios to nothing are log-probabilities."""
    from rlhf.algorithms.preference import dpo_loss
    from rlhf.models.forward import token_logprobs
    from rlhf.stages.batches import Comparisons
    from tests.comparison.inputs import PAD, policy

    batch, network = Comparisons(ours.comparisons(), PAD, ours.CPU), policy()
    better, worse, share = batch.pairs
    answers = batch.answers
    said = token_logprobs(network, answers.ids, answers.mask, answers.targets)[0].sum(1)
    loss = dpo_loss(said[better] - said[worse], share, beta=0.3, label_smoothing=0.1)
    got = ours.measured(network, {"policy": loss}, batch.weight)
    assert got == pytest.approx({key: of_trl("smoothed, without reference")[key] for key in got}, **EXACT)


@pytest.mark.parametrize("name", PPO_SETTINGS)
def test_an_update_of_ppo_is_trls(name: str, run_of: Callable[..., Run]) -> None:
    """KL, rewards, GAE, whitening, clipped losses with their gradients, and metrics."""
    theirs = recorded("1.12.0")[name]
    got = ours.ppo(run_of("ppo", *AS_TRL, *PPO_KEYS[name]), Rollout(), VALUE_WEIGHT)
    for key in ("logit gradients", "value gradients"):
        torch.testing.assert_close(got[key], torch.tensor(theirs[key]), rtol=2e-5, atol=2e-7)
    names = ["loss/policy_avg", "loss/value_avg", "objective/non_score_reward", "objective/scores"]
    names += [] if name == "k3" else ["objective/kl"]  # ours is always k1; theirs is what is paid
    assert {key: got[key] for key in names} == pytest.approx({key: theirs[key] for key in names}, **EXACT)


@pytest.mark.parametrize("name", PPO_SETTINGS)
def test_advantages_before_whitening_are_trls(name: str, run_of: Callable[..., Run]) -> None:
    run = run_of("ppo", *AS_TRL, *PPO_KEYS[name], "ppo.whiten_advantages=false")
    theirs = torch.tensor(recorded("1.12.0")[name]["advantages before whitening"])
    given = Rollout()
    got = ours.ppo(run, given, VALUE_WEIGHT)["advantages"].masked_fill(~given.mask, 0.0)
    torch.testing.assert_close(got, theirs, rtol=2e-5, atol=2e-6)


def test_how_far_the_policy_moved_is_trls_but_for_its_padding(run_of: Callable[..., Run]) -> None:
    """TRL's mean runs over padding too, where nothing moves: a metric, and no part of what is learnt."""
    given, theirs = Rollout(), recorded("1.12.0")["k1"]
    got = ours.ppo(run_of("ppo", *AS_TRL), given, VALUE_WEIGHT)
    real = given.mask.float().mean().item()
    assert got["policy/approxkl_avg"] * real == pytest.approx(theirs["policy/approxkl_avg"], **EXACT)
    assert got["val/ratio"] * real + (1 - real) == pytest.approx(theirs["val/ratio"], **EXACT)


WITHOUT = {
    "ppo.score_after_end": ("ppo.whiten_unbiased=true",),
    "ppo.whiten_unbiased": ("ppo.score_after_end=true",),
    "dpo.average_logprobs": ("dpo", "dpo.loss=ipo", "dpo.beta=0.3"),
    "dpo.likelihood": ("dpo", "dpo.loss=orpo", "dpo.beta=0.3"),
    "rm.center_coef": ("rm", "rm.score_l2=0.01"),
}


@pytest.mark.parametrize("key", DIFFERENCES.values())
def test_each_difference_is_there_without_its_key(key: str, run_of: Callable[..., Run]) -> None:
    if key.startswith("ppo"):
        theirs = recorded("1.12.0")["whitened rewards"]["loss/value_avg"]
        run = run_of("ppo", *WITHOUT[key], *PPO_KEYS["whitened rewards"])
        got = ours.ppo(run, Rollout(), VALUE_WEIGHT)["loss/value_avg"]
    else:
        theirs = of_trl({"dpo.average_logprobs": "ipo", "dpo.likelihood": "orpo", "rm.center_coef": "rm, centred"}[key])["loss"]
        got = ours_of(run_of(*WITHOUT[key]))["loss"]
    assert abs(got - theirs) > 1e-3 * abs(theirs)


def test_no_more_than_five_differences() -> None:
    assert len(DIFFERENCES) == len(WITHOUT) == 5 and set(DIFFERENCES.values()) == set(WITHOUT)


def test_the_preset_named_after_trl_has_its_keys(tmp_path: Path) -> None:
    run = make_run(tmp_path, "stage=ppo", "ppo=trl")
    assert run.ppo.score_after_end and run.ppo.whiten_unbiased


def installed() -> str | None:
    try:
        return version("trl")
    except PackageNotFoundError:
        return None


def same(first: Any, second: Any) -> bool:
    """Whether two records agree to six digits."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == pytest.approx(second, rel=1e-5, abs=1e-6)


def test_the_record_is_what_the_installed_trl_says() -> None:
    pytest.importorskip("trl", reason="TRL is not installed; pip install 'rlhf[compare]', or 1.12.0 as record.py says")
    release = installed()
    if release not in record.RECORDED:
        pytest.skip(f"trl=={release}: the record is of {' and '.join(record.RECORDED)}")
    assert same(record.measure(release), recorded(release))
