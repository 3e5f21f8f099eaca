"""One update kept and computed again: to the bit as recorded, as worked by hand under other settings, and nothing wrong."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from rlhf import chain
from rlhf.config import GRPOConfig, PPOConfig, RLOOConfig
from rlhf.replay import command, knobs
from rlhf.result import Status
from tests.replay.recorded import record, replayed
from tests.stages import small

FOR_ALL = ("reward=function", "reward.function=length", "reward.target_words=5", "rollout.temperature=0.9")
SETTINGS = {
    "ppo": ("minibatches=2", "inner_epochs=2", "learning_rate=3e-3", "kl_target=6", "kl_horizon=8", "ptx_coef=0.5"),
    "rloo": ("minibatches=2", "learning_rate=3e-3", "kl_coef=0.2"),
    "grpo": ("inner_epochs=2", "learning_rate=3e-3", "max_resamples=2", "reward_clip=0.4", "overlong_tokens=4"),
}
MORE = {"ppo": ("ppo.ema_decay=0.9",), "rloo": ("lora=dim8",), "grpo": ()}
KINDS = {"ppo": PPOConfig, "rloo": RLOOConfig, "grpo": GRPOConfig}
UPDATE = 2


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a run of untrained networks that kept its second update, made once for each stage."""
    made: dict[str, Path] = {}

    def run_of(stage: str) -> Path:
        if stage not in made:
            texts = [*FOR_ALL, *(f"{stage}.{each}" for each in SETTINGS[stage]), *MORE[stage]]
            made[stage] = record(tmp_path_factory.mktemp(stage), stage, UPDATE, *texts)
        return made[stage]

    return run_of


@pytest.mark.parametrize("stage", ["ppo", "grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_with_its_own_settings_an_update_is_what_it_was(
    stage: str, kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """All metrics and the weights behind the update, from the capsule alone: what the run started from is gone."""
    code, told = replayed(capsys, kept(stage))
    assert (code, told["equal"], told["unlike"], told["update"]) == (0, True, [], UPDATE)
    assert told["again"] == told["recorded"]
    assert {"moved/policy", "grad_norm/policy", "loss/policy_avg", "policy/clipfrac_avg"} <= told["recorded"].keys()
    assert told["recorded"]["moved/policy"] > 1e-4 and told["changed"] is None


def token_sums(kept: Path, gamma: float, kl_coef: float, clip: float, penalty: float) -> tuple[float, float, float]:
    """Mean score, and mean value and policy losses of one pass with lambda 1 and no whitening: by loops over the record.

    With lambda 1 the return is the discounted sum of what follows; nothing has been learnt, so ratios are 1 and no value is
    clipped: the losses are the means over all tokens of 1/2 (V - G)^2 and of -(G - V).
    """
    tensors = load_file(kept / "capsule" / "rollout.safetensors")
    start = tensors["start_scores"]
    eos = json.loads((kept / "capsule" / "sft" / "config.json").read_text())["eos_token_id"]
    scores, squares, gains = [], [], []
    for row in range(len(tensors["ids"])):
        at = tensors["targets"][row].nonzero().flatten().tolist()
        score = ((tensors["raw_scores"][row] - start.mean()) / start.std()).item()
        score = max(-clip, min(clip, score)) - penalty * (tensors["ids"][row, at[-1]].item() != eos)
        scores.append(score)
        following = 0.0
        for place in reversed(at):
            nats = (tensors["logprobs"][row, place] - tensors["reference"][row, place]).item()
            following = -kl_coef * nats + (score if place == at[-1] else 0.0) + gamma * following
            value = tensors["values"][row, place].item()
            squares.append((value - following) ** 2 / 2)
            gains.append(following - value)
    return sum(scores) / len(scores), sum(squares) / len(squares), -sum(gains) / len(gains)


def test_other_settings_of_score_and_advantage_give_what_is_worked_out_by_hand(
    kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("inner_epochs=1", "minibatches=1", "gae_lambda=1", "whiten_advantages=false", "ptx_coef=0")
    changes = ("gamma=0.9", "kl_coef=0.7", "reward_clip=0.6", "missing_eos_penalty=1.5")
    code, told = replayed(capsys, kept("ppo"), *(f"ppo.{each}" for each in (*plain, *changes)))
    changed = told["changed"]
    expected = token_sums(kept("ppo"), gamma=0.9, kl_coef=0.7, clip=0.6, penalty=1.5)
    got = [changed[name] for name in ("objective/scores", "loss/value_avg", "loss/policy_avg")]
    assert code == 0 and got == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert changed["objective/kl_coef"] == 0.7 != told["recorded"]["objective/kl_coef"]
    assert changed["objective/scores"] != pytest.approx(told["recorded"]["objective/scores"], rel=1e-2)
    assert "loss/ptx_avg" in told["recorded"] and "loss/ptx_avg" not in changed


def test_a_step_is_as_long_as_its_learning_rate(kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """One step of Adam without decay is proportional to its rate, and the place in the schedule stays the same."""
    one = ("ppo.inner_epochs=1", "ppo.minibatches=1", "ppo.ptx_coef=0", "ppo.weight_decay=0")
    first = replayed(capsys, kept("ppo"), *one)[1]["changed"]
    second = replayed(capsys, kept("ppo"), *one, "ppo.critic_learning_rate=1e-4")[1]["changed"]
    assert first["learning_rate/critic"] == pytest.approx(5.5e-4)  # from 1e-3 to a tenth, half of the run behind
    assert second["moved/critic"] / first["moved/critic"] == pytest.approx(0.1, rel=0.01)
    assert second["moved/policy"] == first["moved/policy"]


def test_what_cannot_move_the_policy_beyond_the_clip_is_cut_there(
    kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, told = replayed(capsys, kept("ppo"), "ppo.clip_range=1e-4")
    assert told["changed"]["policy/clipfrac_avg"] > 0.5 > told["recorded"]["policy/clipfrac_avg"]
    assert told["changed"]["objective/scores"] == told["recorded"]["objective/scores"]
    assert told["changed"]["grad_norm/policy"] < told["recorded"]["grad_norm/policy"]


def test_the_table_has_record_change_and_difference(kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(kept("grpo") / "capsule"), "grpo.kl_coef=0.5"]) == 0
    said = capsys.readouterr().out
    count = len(json.loads((kept("grpo") / "capsule" / "capsule.json").read_text())["metrics"])
    assert f"as recorded, bit for bit: {count} numbers and the weights of policy" in said
    assert "grpo.kl_coef=0.5" in said and "change" in said
    (row,) = [line.split() for line in said.splitlines() if line.split()[:1] == ["objective/kl_coef"]]
    assert row == ["objective/kl_coef", "0.04", "0.5", "+0.46"]
    (row,) = [line.split() for line in said.splitlines() if line.split()[:1] == ["objective/scores"]]
    assert row[1] == row[2] and row[3] == "="


# what is refused


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["ppo.clip_rnge=0.1"], "there is no key `ppo.clip_rnge`; did you mean `ppo.clip_range`?"),
        (["ppo.clip_range=much"], "ppo.clip_range=much: "),
        (["ppo.clip_range=-1"], "ppo.clip_range=-1"),
        (["ppo.minibatches=3"], "ppo.minibatches=3 does not divide ppo.batch_size=8"),
        (["rollout.temperature=0.5"], "in the capsule, sampled already; set it on a run of its own, with ppo.capture_step=2"),
        (["seed=3"], "seed=3: cannot be tried on a recorded update: its prompts and responses"),
        (["model.dropout=0.1"], "model.dropout=0.1: cannot be tried on a recorded update: its networks"),
        (["reward.target_words=9"], "its raw scores are in the capsule"),
        (["reward.disagreement_coef=2"], "it holds the scores of one reward alone"),
        (["ppo.kl_target=1"], "it changes later updates only"),
        (["zero=2"], "with plain torch on the CPU"),
        (["evaluation.prompts=2"], "no update reads it"),
        (["grpo.clip_range=0.1"], "the capsule is of stage=ppo; write ppo.clip_range=..."),
        (["grpo.weighting=token"], "the capsule is of stage=ppo, whose keys begin with `ppo.`"),
        (["ppo.inner_epochs=3"], "the capsule holds text of ppo.ptx_coef for 2 passes"),
        (["clip"], "takes a capsule and settings"),
    ],
)
def test_a_setting_that_cannot_be_tried_is_a_fault(
    words: list[str], fault: str, kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = replayed(capsys, kept("ppo"), *words)
    assert code == 2 and fault in told["fault"] and "1 fault" in told["fault"]


def copied(kept: Path, tmp_path: Path, **changes: Callable[[Path], None]) -> Path:
    """A copy of the capsule in which files were changed by whoever also writes the manifest."""
    folder = Path(shutil.copytree(kept / "capsule", tmp_path / "capsule"))
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, change in changes.items():
        file = next(folder.glob(f"{name}.*"))
        change(file)
        manifest["files"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_text_that_was_not_learnt_cannot_be(
    kept: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(rollout: Path) -> None:
        tensors = load_file(rollout)
        save_file({name: each.clone() for name, each in tensors.items() if not name.startswith("texts/")}, rollout)

    def at_zero(config: Path) -> None:
        config.write_text(config.read_text().replace("ptx_coef: 0.5", "ptx_coef: 0.0"))

    folder = copied(kept("ppo"), tmp_path, rollout=without, config=at_zero)
    code, told = replayed(capsys, folder, "ppo.ptx_coef=1")
    assert code == 2 and "ppo.ptx_coef=1.0: the run learnt no text, so the capsule holds none" in told["fault"]


def test_a_capsule_that_was_changed_is_not_read(
    kept: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(kept("grpo"), tmp_path)
    content = bytearray((folder / "before.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "before.safetensors").write_bytes(content)
    code, told = replayed(capsys, folder)
    assert code == 2 and "before.safetensors: differs from its digest in the manifest; a capsule is" in told["fault"]
    (folder / "capsule.json").unlink()
    code, told = replayed(capsys, folder)
    assert code == 2 and "has no capsule.json, so it is no capsule that was finished" in told["fault"]
    shutil.copy(kept("grpo") / "config.yaml", tmp_path)
    shutil.rmtree(folder)
    code, told = replayed(capsys, tmp_path)
    assert code == 2 and "this run kept no capsule; ppo.capture_step=K" in told["fault"]


@pytest.mark.parametrize(("package", "code", "words"), [("optuna", 1, "though the settings are"), ("torch", 0, "to the bit")])
def test_a_number_that_is_not_as_recorded_is_named_and_fails(
    package: str, code: int, words: str, kept: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the last bit of one metric; another torch may compute another."""

    def nudge(file: Path) -> None:
        about = json.loads(file.read_text())
        about["metrics"]["loss/policy_avg"] = math.nextafter(about["metrics"]["loss/policy_avg"], math.inf)
        about["versions"][package] = "0.1"
        file.write_text(json.dumps(about))

    folder = copied(kept("grpo"), tmp_path, capsule=nudge)
    assert command.main([str(folder)]) == code
    said = " ".join(capsys.readouterr().out.split())  # however the lines are broken
    assert "not " in said and words in said and "loss/policy_avg" in said and f"Recorded with {package} 0.1, here" in said
    found, told = replayed(capsys, folder)
    assert (found, told["equal"], told["unlike"]) == (code, False, ["loss/policy_avg"])


def test_a_capsule_of_other_code_is_named(
    kept: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def older(file: Path) -> None:
        file.write_text(json.dumps(json.loads(file.read_text()) | {"mean": 0.5}))

    code, told = replayed(capsys, copied(kept("grpo"), tmp_path, capsule=older))
    assert code == 2 and "was written by other code; check out the commit of its run" in told["fault"]


def test_settings_that_ruin_the_update_are_named(kept: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, told = replayed(capsys, kept("grpo"), "grpo.learning_rate=1e30")
    assert code == 2 and "grpo.learning_rate=1e30: " in told["fault"] and "so the run would have ended here" in told["fault"]


@pytest.mark.parametrize("stage", knobs.KEYS)
def test_every_key_of_a_stage_can_be_tried_or_it_is_said_why_not(stage: str) -> None:
    own = {each.name for each in fields(KINDS[stage])}
    refused = {key.removeprefix("{}.") for keys in knobs.WHY.values() for key in keys if key.startswith("{}.")}
    assert set(knobs.KEYS[stage]) | (refused & own) == own
    assert not set(knobs.KEYS[stage]) & refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "exact"),
    [
        (("ppo.kl_estimator=k3", "ppo.critic_warmup=1", "ppo.gradient_checkpointing=true"), True),
        (("lora=dim8", "reward_lora=dim8", "ppo.critic_init=sft", "ppo.score_after_end=true"), True),
        (("precision=bf16",), True),
        (("reward.members=3",), True),
        (("zero=2", "ranks=2", "ppo.micro_batch_size=2", "reward.members=2"), False),
        (("zero=3", "lora=dim8"), False),
    ],
)
def test_a_whole_run_keeps_an_update(
    words: tuple[str, ...], exact: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a reward model, its critic and a scale; on ranks the numbers come again up to rounding."""
    run = small.make_run(tmp_path, "stage=ppo", "ppo.capture_step=2", "ppo.learning_rate=1e-3", "ppo.minibatches=2", *words)
    result = chain.execute(run)
    assert result.status is Status.finished, result.message
    assert f"update 2 is kept: python -m rlhf replay {result.folder}" in capsys.readouterr().out or not exact
    for made in ("sft", "rm"):
        shutil.rmtree(next(tmp_path.glob(f"runs/{made}-*")))
    code, told = replayed(capsys, Path(result.folder))
    assert (code, told["equal"]) == (0, exact)
    for name, value in told["recorded"].items():
        if not name.startswith("signs/"):
            assert told["again"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_a_run_that_is_made_afresh_or_ends_before_says_what_it_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("stage=rloo", "rloo.updates=4", "rloo.capture_step=4", "rloo.eval_every=1", *FOR_ALL)
    ends = ("early_stop.metric=eval/kl", "early_stop.goal=minimize", "early_stop.patience=1")
    result = chain.execute(small.make_run(tmp_path, *words, *ends))
    assert result.reason == "early_stop" and not (Path(result.folder) / "capsule").exists()
    assert "rloo.capture_step=4: the run ended after" in capsys.readouterr().err
    folder = Path(chain.execute(small.make_run(tmp_path, *words)).folder)
    assert replayed(capsys, folder)[1]["equal"]
    before = (folder / "capsule" / "manifest.json").stat().st_mtime_ns
    chain.execute(small.make_run(tmp_path, *words, "fresh=true"))
    assert (folder / "capsule" / "manifest.json").stat().st_mtime_ns > before and replayed(capsys, folder)[1]["equal"]
