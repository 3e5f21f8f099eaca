"""A stand-in on loopback for the server of Weights & Biases: it keeps runs as their own client sends them.

It answers the requests that the client makes while it logs and syncs, and those of `wandb-workspaces`.
"""

import gzip
import json
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
import wandb

from tests.tracking.wandb_kept import Json, Server


class _Http(ThreadingHTTPServer):
    kept: Server

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that ends while its connection is open is no error; what goes wrong in an answer is one."""
        if not isinstance(sys.exception(), ConnectionError):
            self.kept.unknown.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    kept: Server

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            operation = asked.get("operationName") or _operation(asked["query"])
            data = self.kept.answer(operation, asked.get("variables") or {})
            self._say(
                200 if data is not None else 400, {"data": data} if data is not None else {"errors": [{"message": operation}]}
            )
        elif found := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.kept.stream(found[1], json.loads(body))
            self._say(200, {"exitcode": None, "limits": {}})
        else:
            self.kept.unknown.append(self.path)
            self._say(404, {})

    def do_PUT(self) -> None:
        body = self._body()
        self.kept.put(unquote(self.path.removeprefix("/put/")), body)
        self._say(200, {})

    def _body(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _say(self, code: int, content: Json) -> None:
        said = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _operation(query: str) -> str:
    found = re.search(r"\b(?:query|mutation)\s+(\w+)", query)
    return found[1] if found else "anonymous"


@contextmanager
def serving() -> Iterator[Server]:
    """A server while the block lasts."""
    kept = Server()
    handler = type("Handler", (_Handler,), {"kept": kept})
    http = _Http(("127.0.0.1", 0), handler)
    http.kept = kept
    kept.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server to which somebody is logged in."""
    wandb.teardown()  # what it has read of the environment
    with serving() as started:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_BASE_URL", started.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staging"))
        yield started
        wandb.teardown()
