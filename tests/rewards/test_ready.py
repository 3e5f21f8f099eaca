"""What is seen of a reward before anything is trained."""

from pathlib import Path

import pytest
import torch

from rlhf import chain
from rlhf.config import RewardConfig, RewardFunction, RewardKind
from rlhf.data.corpus import Corpus
from rlhf.data.records import Example, Turn
from rlhf.fault import Fault
from rlhf.rewards import own, ready, server
from tests.stages import small


def reward(**fields: object) -> RewardConfig:
    given = dict.fromkeys(("function", "target_words", "pattern", "path", "url")) | {"timeout": 5.0, "allow_remote": False}
    return RewardConfig(**(given | fields))


def corpus(*solutions: str | None) -> Corpus:
    rows = [Example((Turn("user", "why"),), None, None, "mine", solution=each) for each in solutions]
    parts = {("ppo", "train"): rows, ("ppo", "held_out"): list[Example]()}
    return Corpus(parts=parts, weights={}, digest="", gold=None, temperature=1.0, fit={}, report=[])


@pytest.mark.parametrize(
    ("solutions", "pattern", "fault"),
    [
        (["1", None], None, "1 of 2 prompts have no solution .*sources: mine"),
        (["one", "two"], None, "no solution of the data holds an answer"),
        (["1", "2"], "answer: (.*)", "no solution of the data holds an answer"),
    ],
)
def test_solutions_are_looked_for(solutions: list[str | None], pattern: str | None, fault: str) -> None:
    asked = reward(kind=RewardKind.function, function=RewardFunction.answer, pattern=pattern)
    with pytest.raises(Fault, match=fault):
        ready.see(asked, corpus(*solutions))
    ready.see(reward(kind=RewardKind.function, function=RewardFunction.answer), corpus("1", "2"))


@pytest.mark.parametrize(("solutions", "sent"), [(("7",), "5"), ((None,), None)])
def test_a_server_is_asked_once(solutions: tuple[str | None, ...], sent: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(server.Server, "_ask", lambda self, body: asked.append(body) or b'{"scores": [0.5]}')
    ready.see(reward(kind=RewardKind.http, url="http://127.0.0.1:9/"), corpus(*solutions))
    (body,) = asked
    assert ("null" not in body.decode()) == (sent is not None) and "What is 2 + 3?" in body.decode()


def test_a_server_that_answers_nonsense_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.Server, "_ask", lambda self, body: b'{"scores": [0.5, 1]}')
    with pytest.raises(Fault, match="gave 2 scores for 1 responses"):
        ready.see(reward(kind=RewardKind.http, url="http://127.0.0.1:9/"), corpus(None))


def test_no_parent_is_trained_for_a_reward_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text("def score(responses): return []\n")
    run = small.make_run(tmp_path, "stage=ppo", "reward=file", f"reward.path={tmp_path}/my.py:score")
    with pytest.raises(Fault, match="does not take prompts, responses and solutions"):
        chain.execute(run)
    assert not list((tmp_path / "runs").glob("*/artifact"))


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("raise ValueError('boom')", r"my\.py:score: failed on a first prompt \(ValueError: boom\)"),
        ("return [float('nan')]", "every score must be a finite number"),
        ("return []", "gave 0 scores for 1 responses"),
    ],
)
def test_a_function_of_ones_own_is_tried_before_anything_is_trained(body: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(f"def score(prompts, responses, solutions): {body}\n")
    run = small.make_run(tmp_path, "stage=ppo", "reward=file", f"reward.path={tmp_path}/my.py:score")
    with pytest.raises(Fault, match=fault):
        chain.execute(run)
    assert not list((tmp_path / "runs").glob("*/artifact"))


def test_a_gpu_that_is_not_there_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(Fault, match=r"ppo\.reward_device=cuda:1: torch sees 0 GPUs here"):
        chain.execute(small.make_run(tmp_path, "stage=ppo", "ppo.reward_device=cuda:1"))
    assert not list((tmp_path / "runs").glob("*/artifact"))


@pytest.mark.parametrize(
    ("body", "fault"),
    [("def other(): ...", "has no function score"), ("def score(:", "is no Python"), ("print(score)", "has no function score")],
)
def test_a_file_is_looked_at_without_being_run(body: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(body)
    with pytest.raises(Fault, match=fault):
        own.looked_at(f"{tmp_path}/my.py:score")


@pytest.mark.parametrize(
    "body",
    ["def score(*a): 1 / 0", "score = print", "from there import score", "import there as score", "from there import *"],
)
def test_a_function_may_come_from_anywhere(body: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(body)
    own.looked_at(f"{tmp_path}/my.py:score")
