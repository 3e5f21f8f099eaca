"""A reward from a server, by JSON over HTTP.

    POST url    {"prompts": [[{"role", "content"}, ...], ...], "responses": [text, ...], "solutions": [text or null, ...]}
    answer      {"scores": [number, ...]}

A token, if the server wants one, comes from the environment variable RLHF_REWARD_TOKEN and goes into the header
`Authorization: Bearer`.
"""

import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rlhf.fault import Fault

TRIES = 4
"""With a second, then two, then four between them: a server that restarts is no reason to lose a run."""

LARGEST_ANSWER = 2**24
"""Bytes of an answer that are read; a list of scores is never longer."""


def is_loopback(url: str) -> bool:
    """Whether the server is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Responses go to the server that was named, and to no other."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


@dataclass(frozen=True)
class Server:
    """Scores by asking ``url``; ``timeout`` seconds for each try."""

    url: str
    timeout: float

    def score(self, prompts: list[list[dict[str, str]]], responses: list[str], solutions: list[str | None]) -> Sequence[float]:
        """One number a response.

        Raises:
            Fault: the server cannot be reached, refuses, or does not answer in the protocol.
        """
        body = json.dumps({"prompts": prompts, "responses": responses, "solutions": solutions}).encode()
        for left in reversed(range(TRIES)):
            try:
                answered = self._ask(body)
                break
            except urllib.error.HTTPError as error:
                if error.code < 500 or left == 0:
                    raise Fault(f"reward.url={self.url}: the server answers {error.code} {error.reason}") from error
            except (OSError, http.client.HTTPException) as error:
                if left == 0:
                    reason = getattr(error, "reason", None) or error or type(error).__name__
                    raise Fault(f"reward.url={self.url}: no answer after {TRIES} tries ({reason}); is it running?") from error
            time.sleep(2.0 ** (TRIES - 1 - left))
        try:
            scores = json.loads(answered)["scores"]
        except (ValueError, KeyError, TypeError) as error:
            raise Fault(f'reward.url={self.url}: the answer must be {{"scores": [...]}}, and is {answered[:60]!r}') from error
        if not isinstance(scores, list):
            raise Fault(f"reward.url={self.url}: scores must be a list, and is {scores!r:.60}")
        return scores

    def _ask(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get("RLHF_REWARD_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url, body, headers)
        with _OPENER.open(request, timeout=self.timeout) as response:
            read: bytes = response.read(LARGEST_ANSWER + 1)
        if len(read) > LARGEST_ANSWER:
            raise Fault(f"reward.url={self.url}: the answer is larger than {LARGEST_ANSWER >> 20} MiB")
        return read
