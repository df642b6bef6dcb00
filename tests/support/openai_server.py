"""A server with OpenAI's interface on the loopback interface, with the faults of real ones."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

FACTOR, AROUND = 28, 2  # of its visual tokens, and the tokens around an image
KEY = "sk-seeded-0123456789abcdef"  # the only key that it takes, where it asks for one


class OpenAIServer:
    """faults: by the number of a request (from 0), "429", "500", "hang", "length", "broken", "cut", or "die".

    After "die" it refuses connections until `start` is called. keyed: whether it asks for `KEY`. limit: pixels to which
    it resizes images. hold: seconds of an answer.
    """

    def __init__(self, faults: dict[int, str] | None = None, keyed: bool = False, limit: int | None = None,
                 hold: float = 0.0, sees: bool = True):
        self.faults, self.keyed, self.limit, self.hold, self.sees = dict(faults or {}), keyed, limit, hold, sees
        self.received = self.active = self.most = 0
        self.asked, self.answered, self.bodies = Counter(), Counter(), []  # by what was asked
        self.models, self.port, self.died = [{"id": "seer", "owned_by": "us"}], 0, threading.Event()
        self.let_go, self._lock, self._server = threading.Event(), threading.Lock(), None

    def __enter__(self) -> OpenAIServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go.set()
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Listener(("127.0.0.1", self.port), _handler(self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def take(self, body: dict) -> str | None:
        """Count a request; returns its fault."""
        with self._lock:
            number, self.received = self.received, self.received + 1
            self.active += 1
            self.most = max(self.most, self.active)
            self.asked[name(body)] += 1
            self.bodies.append(body)
            return self.faults.get(number)

    def reply(self, body: dict, finish: str = "stop") -> dict:
        with self._lock:
            self.answered[name(body)] += 1
        prompt = sum(len(part["text"]) for part in _parts(body) if part["type"] == "text")
        prompt += sum(self._tokens(part) for part in _parts(body) if part["type"] == "image_url") if self.sees else 0
        return {
            "id": "1", "object": "chat.completion", "model": body["model"], "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "finish_reason": finish,
                         "message": {"role": "assistant", "content": f" {answer(body)}\n"}}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": 2, "total_tokens": prompt + 2,
                      "prompt_tokens_details": {"cached_tokens": 1},
                      "completion_tokens_details": {"reasoning_tokens": 0}},
        }

    def leave(self) -> None:
        with self._lock:
            self.active -= 1

    def _tokens(self, part: dict) -> int:
        width, height = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).size
        shrink = 1.0 if self.limit is None else min(1.0, (self.limit / (width * height)) ** 0.5)
        return int(height * shrink) // FACTOR * (int(width * shrink) // FACTOR) + AROUND


def answer(body: dict) -> str:
    """What it answers: a function of all that it was shown and asked."""
    return hashlib.sha256(name(body).encode()).hexdigest()[:6]


def name(body: dict) -> str:
    return json.dumps([body["model"], body["messages"]], sort_keys=True)


def _parts(body: dict) -> list[dict]:
    return [part for turn in body["messages"] for part in turn["content"]]


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that went away is what some tests are about."""


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self._known():
                self._send({"object": "list", "data": server.models})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self._known():
                return
            fault = server.take(body)
            try:
                if server.hold:
                    threading.Event().wait(server.hold)
                self._answer(body, fault)
            finally:
                server.leave()

        def _answer(self, body: dict, fault: str | None) -> None:
            if fault == "429":
                self._send({"error": {"message": "slow down"}}, 429, {"Retry-After": "0.05"})
            elif fault == "500":
                self._send({"error": {"message": "oops"}}, 500)
            elif fault == "400":
                self._send({"error": {"message": f"no images here, {self.headers['Authorization']}"}}, 400)
            elif fault == "hang":
                server.let_go.wait(20)
            elif fault == "broken":
                self._raw(json.dumps(server.reply(body)).encode()[:40])
            elif fault == "cut":
                content = json.dumps(server.reply(body)).encode()
                self._raw(content[:40], length=len(content))
            elif fault == "die":
                threading.Thread(target=self._die).start()
                self.connection.close()
            else:
                self._send(server.reply(body, "length" if fault == "length" else "stop"))

        def _die(self) -> None:
            server.stop()
            server.died.set()

        def _known(self) -> bool:
            given = self.headers["Authorization"]
            if server.keyed and given != f"Bearer {KEY}":
                self._send({"error": {"message": f"Incorrect API key provided: {given}"}}, 401)
                return False
            return True

        def _send(self, content: dict, status: int = 200, headers: dict | None = None) -> None:
            self._raw(json.dumps(content).encode(), status, headers)

        def _raw(self, content: bytes, status: int = 200, headers: dict | None = None, length: int | None = None):
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content) if length is None else length))
                for header, value in (headers or {}).items():
                    self.send_header(header, value)
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Silent."""

    return Handler
