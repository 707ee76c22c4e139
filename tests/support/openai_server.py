"""A small OpenAI-compatible server for tests: real HTTP, scripted answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mmpr_builder.engines.server import QUESTION

Answer = Callable[[dict[str, Any]], tuple[int, Any]]


def choices(*texts: str, **extra: Any) -> dict[str, Any]:
    """A reply with these texts; a token is a word."""
    return {
        "choices": [
            {"index": i, "message": {"content": text}, "finish_reason": "stop", **extra}
            for i, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 9, "completion_tokens": sum(len(t.split()) for t in texts)},
    }


def examined(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """What a server says before any seed: it has no tokens to tell, and leaves turns open."""
    if path != "/v1/chat/completions":
        return 404, {"error": "no such path"}
    texts = [f"Animal number {i}" for i in range(body["n"])]
    reply = choices(*texts)
    reply["usage"]["prompt_tokens"] += body["messages"][-1]["role"] == "assistant"
    return 200, reply


def is_examination(path: str, body: dict[str, Any]) -> bool:
    asked = body.get("messages", [{"content": ""}])[0]["content"]
    return QUESTION in json.dumps(asked) or path in ("/tokenize", "/detokenize")


class _Server(ThreadingHTTPServer):
    request_queue_size = 256  # Five, the default, are fewer than one seed asks at once.


class OpenAIServer:
    """Answers `POST /v1/chat/completions` by `answer(body)`: status, reply; keeps the bodies.

    What is asked before any seed, and about tokens, is answered by `examined(path, body)` instead.
    """

    def __init__(self, answer: Answer, *, owner: str = "someone", model: str = "org/vlm") -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.examined = examined
        self.models: tuple[int, Any] = (200, {"data": [{"id": model, "owned_by": owner}]})
        self._server = _Server(("127.0.0.1", 0), _handler(self, answer))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(server: OpenAIServer, answer: Answer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, reply = server.models if self.path == "/v1/models" else (404, {})
            self._send(status, reply)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if is_examination(self.path, body):
                return self._send(*server.examined(self.path, body))
            server.bodies.append(body)
            server.headers.append(dict(self.headers.items()))
            self._send(*answer(body))

        def _send(self, status: int, reply: Any) -> None:
            broken = isinstance(reply, bytes)  # Sent as it is, and called compressed.
            data = reply if broken else json.dumps(reply).encode()
            self.send_response(status)
            if broken:
                self.send_header("Content-Encoding", "gzip")
            if status == 429:
                self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
