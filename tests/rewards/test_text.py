"""Rewards from a person's file and from a server: what they are asked, and what becomes of bad answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rlhf.config import Device, Precision, RewardConfig, RewardFunction, RewardKind
from rlhf.data.records import Example, Turn
from rlhf.engine.torch_engine import TorchEngine
from rlhf.fault import Fault
from rlhf.rewards import own, server
from rlhf.rewards.text import TextReward, text_reward

EXAMPLES = [
    Example((Turn("system", "be brief"), Turn("user", f"question {n}")), None, None, "mine", solution=f"#### {n}")
    for n in range(5)
]
TEXTS = [f"it is {n % 3}" for n in range(5)]


def reward(**fields: object) -> TextReward:
    given = dict.fromkeys(("function", "target_words", "pattern", "path", "url")) | {"timeout": 5.0, "allow_remote": False}
    return text_reward(RewardConfig(**(given | fields)), TorchEngine(Device.cpu, Precision.fp32, False), size=2)


def scores(asked: TextReward) -> list[float]:
    return asked.score(EXAMPLES, TEXTS, []).tolist()


def test_a_rule_sees_the_solution_of_each_prompt() -> None:
    assert scores(reward(kind=RewardKind.function, function=RewardFunction.answer)) == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_a_rule_that_needs_a_solution_says_which_prompt_has_none() -> None:
    asked = reward(kind=RewardKind.function, function=RewardFunction.answer)
    with pytest.raises(Fault, match="'why' has no solution"):
        asked.score([Example((Turn("user", "why"),), None, None, "mine")], ["because"], [])


def test_a_file_of_ones_own_gets_prompts_responses_and_solutions(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("BONUS = 10\n")
    (tmp_path / "my.py").write_text(
        "from helper import BONUS\n"
        "def score(prompts, responses, solutions):\n"
        "    assert prompts[0][0] == {'role': 'system', 'content': 'be brief'} and len(responses) <= 2\n"
        "    return [BONUS + len(r) + int(s[-1]) for r, s in zip(responses, solutions)]\n"
    )
    assert scores(reward(kind=RewardKind.file, path=f"{tmp_path}/my.py:score")) == [17.0, 18.0, 19.0, 20.0, 21.0]


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        ("def score(*a): return [1.0]", "my.py:score", "gave 1 scores for 2 responses"),
        ("def score(*a): return [1.0, float('nan')]", "my.py:score", "every score must be a finite number"),
        ("def score(*a): return 3", "my.py:score", "must give a list of numbers"),
        ("def other(*a): return 3", "my.py:score", "has no function score"),
        ("1 / 0", "my.py:score", "fails with ZeroDivisionError"),
        ("def score(responses): return []", "my.py:score", "score does not take prompts, responses and solutions"),
        ("", "my.py", "write the file, a colon and the function"),
        ("", "none.py:score", "there is no file"),
    ],
)
def test_a_bad_file_is_the_users_fault(body: str, path: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(body)
    with pytest.raises(Fault, match=message):
        scores(reward(kind=RewardKind.file, path=f"{tmp_path}/{path}"))


def test_a_changed_file_is_another_reward_and_a_moved_one_is_not(tmp_path: Path) -> None:
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text("def score(*a): return []\n")
    second.write_text(first.read_text())
    assert own.digest(f"{first}:score") == own.digest(f"{second}:score") != own.digest(f"{first}:other")
    second.write_text("def score(*a): return [0]\n")
    assert own.digest(f"{first}:score") != own.digest(f"{second}:score")


class Judge(BaseHTTPRequestHandler):
    """Scores a response by its last digit; misbehaves as its path says."""

    failures = 0
    tokens: list[str | None] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Judge.tokens.append(self.headers["Authorization"])
        if self.path == "/busy" and Judge.failures > 0:
            Judge.failures -= 1
            return self._answer(503, b"")
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/score")
            self.end_headers()
            return None
        if self.path == "/nonsense":
            return self._answer(200, b"<html>")
        return self._answer(200, json.dumps({"scores": [int(each[-1]) for each in asked["responses"]]}).encode())

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(server.time, "sleep", lambda seconds: None)
    Judge.tokens.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Judge) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def test_a_server_scores_and_gets_the_token_from_the_environment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLHF_REWARD_TOKEN", "secret")
    assert scores(reward(kind=RewardKind.http, url=f"{address}/score")) == [0.0, 1.0, 2.0, 0.0, 1.0]
    assert Judge.tokens == ["Bearer secret"] * 3


def test_a_server_that_restarts_is_asked_again(address: str) -> None:
    Judge.failures = server.TRIES - 1
    assert scores(reward(kind=RewardKind.http, url=f"{address}/busy")) == [0.0, 1.0, 2.0, 0.0, 1.0]
    Judge.failures = server.TRIES
    with pytest.raises(Fault, match="answers 503"):
        scores(reward(kind=RewardKind.http, url=f"{address}/busy"))


@pytest.mark.parametrize(("path", "message"), [("nonsense", "the answer must be"), ("elsewhere", "answers 302")])
def test_a_server_that_misbehaves_is_named(path: str, message: str, address: str) -> None:
    with pytest.raises(Fault, match=message):
        scores(reward(kind=RewardKind.http, url=f"{address}/{path}"))


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.time, "sleep", lambda seconds: None)
    with pytest.raises(Fault, match="no answer after 4 tries .*; is it running"):
        scores(reward(kind=RewardKind.http, url="http://127.0.0.1:9/score"))


@pytest.mark.parametrize(
    ("url", "own_machine"),
    [("http://127.0.0.1:8/x", True), ("http://localhost/x", True), ("http://[::1]:8/", True), ("http://10.0.0.1/", False),
     ("http://127.0.0.1.example.org/", False), ("http://localhost.example.org", False)],
)  # fmt: skip
def test_loopback_is_told_from_other_machines(url: str, own_machine: bool) -> None:
    assert server.is_loopback(url) is own_machine
