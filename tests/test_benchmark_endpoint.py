"""A table whose policy is behind an endpoint: no engine, the same questions, and nothing paid twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from floe.actors.demo.build import write_demo
from floe.cluster.operations.evaluate_table import TableOptions, evaluate_table
from tests.command_line import config

NUM_QUESTIONS = 5


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, list[str]]]:
    """Serve chat completions with the gold of each question; yield the address and the texts that it was sent."""
    write_demo(tmp_path / "demo")
    golds = {one["question"]: one["query"] for one in json.loads((tmp_path / "demo" / "test.json").read_text())}
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = asked["messages"][-1]["content"]
            sent.append(text)
            sql = next(gold for question, gold in golds.items() if question in text)
            message = {"role": "assistant", "content": f"```sql\n{sql}\n```"}
            usage = {"prompt_tokens": 10, "completion_tokens": 5}
            body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}/v1", sent
    served.shutdown()
    served.server_close()


def test_an_endpoint_fills_cells_without_an_engine_and_is_asked_each_question_once(home, server, tmp_path, capsys):
    url, sent = server
    entry = {"questions": "demo/test.json", "databases": "demo/databases", "limit": NUM_QUESTIONS}
    described = {"url": url, "model": "oracle", "price_in": 1.0, "price_out": 2.0}
    table = {
        "config": config("smoke.yaml"),
        "benchmarks": [{"name": "one"} | entry],
        "policies": [{"name": "behind", "endpoint": described}],
    }
    path = tmp_path / "benchmarks.yaml"
    path.write_text(json.dumps(table))
    overrides = (f"run.home={home}", "model.dtype=float32", "rollout.dtype=float32")
    options = TableOptions(file=path, out=tmp_path / "out", as_json=True, overrides=overrides)
    assert evaluate_table(options) == 0
    captured = capsys.readouterr()
    (cell,) = json.loads(captured.out)["rows"][0]["cells"]
    assert cell["figures"]["greedy"]["mean"] == 1.0
    assert (cell["endpoint"]["num_answers"], cell["endpoint"]["paid_prompt_tokens"]) == (NUM_QUESTIONS, 50)
    assert len(sent) == NUM_QUESTIONS and "engine" not in captured.err.replace("so does the engine", "")
    assert (tmp_path / "out" / "endpoint_answers").is_dir()

    assert evaluate_table(options) == 0
    assert "1 of 1 cells are there already" in capsys.readouterr().err and len(sent) == NUM_QUESTIONS
    (tmp_path / "out" / "cells" / "one" / "behind" / "cell.json").unlink()
    assert evaluate_table(options) == 0
    (cell,) = json.loads(capsys.readouterr().out)["rows"][0]["cells"]
    assert cell["endpoint"]["num_kept"] == len(sent) == NUM_QUESTIONS
