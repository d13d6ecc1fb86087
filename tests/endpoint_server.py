"""A small server of OpenAI's interface on 127.0.0.1, which answers as a test wants it and records what it gets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback_server import served


@dataclass
class Answer:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    drip: bool = False  # send the body's bytes for ever, one at a time


@dataclass
class EndpointServer:
    """What the server saw, and the most requests that it had at a time."""

    answer: Callable[[dict], Answer]
    url: str = ""
    asked: list[dict] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    num_now: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)


def said(text: object, *, tokens: tuple[int, int] | None = (10, 5), reason: str = "stop", **message: object) -> Answer:
    """Return a completion, in the form of both interfaces."""
    choice = {"index": 0, "finish_reason": reason, "text": text, "message": {"content": text, **message}}
    fields: dict = {"choices": [choice]}
    if tokens is not None:
        fields["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return Answer(body=json.dumps(fields).encode())


def refused(message: str, status: int = 400, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    return Answer(status=status, body=body, headers={name.replace("_", "-"): one for name, one in headers.items()})


@contextmanager
def endpoint_server(answer: Callable[[dict], Answer]) -> Iterator[EndpointServer]:
    seen = EndpointServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                seen.asked.append(body)
                seen.paths.append(self.path)
                seen.keys.append(self.headers["Authorization"])
                seen.num_now += 1
                seen.most_at_once = max(seen.most_at_once, seen.num_now)
            found = seen.answer(body)
            with seen.lock:
                seen.num_now -= 1
            try:
                self.send_response(found.status)
                for name, value in found.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(10**9 if found.drip else len(found.body)))
                self.end_headers()
                self.wfile.write(found.body)
                while found.drip and not seen.ended.wait(0.02):
                    self.wfile.write(b" ")
            except OSError:
                self.close_connection = True  # the client has gone

        def log_message(self, *_: object) -> None:
            """Write nothing to stderr."""

    with served(Handler) as seen.url:
        try:
            yield seen
        finally:
            seen.ended.set()
