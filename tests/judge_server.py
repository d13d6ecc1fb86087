"""A small endpoint of the chat completions' interface on 127.0.0.1, which answers as a test wants it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.loopback_server import served

Answer = tuple[int, bytes]


@dataclass
class JudgeServer:
    """A judge that records its requests, and the most that it saw at a time."""

    answer: Callable[[dict], Answer]
    url: str = ""
    asked: list[dict] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    num_now: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def said(content: object) -> Answer:
    """Return a chat completion with this text, or this object as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "judge", "choices": [choice]}
    return 200, json.dumps(body).encode()


@contextmanager
def judge_server(answer: Callable[[dict], Answer]) -> Iterator[JudgeServer]:
    seen = JudgeServer(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                seen.asked.append(body)
                seen.keys.append(self.headers["Authorization"])
                seen.num_now += 1
                seen.most_at_once = max(seen.most_at_once, seen.num_now)
            status, content = seen.answer(body)
            with seen.lock:
                seen.num_now -= 1
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Write nothing to stderr."""

    with served(Handler) as seen.url:
        yield seen
