"""Says where two evaluations' greedy answers part, and how near the tokens between which they part were.

python -m tests.endpoint_differences CONFIG LOCAL SERVED URL MODEL [section.field=value ...]
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from floe.cluster.environment import environment_overrides
from floe.cluster.evaluation.asked_questions import Asked, asked_of_split
from floe.cluster.evaluation.saved_evaluation import Evaluation, read_evaluation
from floe.cluster.messages import Outcome
from floe.cluster.models.model_folder import model_folder
from floe.cluster.run_folder.file_names import EVALUATION_FILE
from floe.cluster.terminal.progress import Progress, make_console
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig

NUM_ALTERNATIVES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Two answers to one question: the first token in which they differ, and its log-probabilities at the server."""

    question_id: str
    outcomes: tuple[str, str]
    number: int  # of the token, from 0
    tokens: tuple[str, str]
    gap: float | None  # nats between the two; None where the local one is not among the first

    def line(self) -> str:
        gap = "not among the first five" if self.gap is None else f"{self.gap:.4f} nats apart"
        local, served = self.tokens
        outcomes = " -> ".join(self.outcomes)
        return f"{self.question_id} | {outcomes} | token {self.number}: {local!r} -> {served!r} | {gap}"


def differences(asked: Asked, local: Evaluation, served: Evaluation, url: str, model: str) -> list[Difference]:
    """Return the questions whose greedy SQL differs, in their order."""
    of_server = {one.question_id: one.greedy for one in served.records}
    found = []
    questions = {one.question_id: one for one in asked.questions}
    for record in local.records:
        here, there = record.greedy, of_server[record.question_id]
        if here.sql == there.sql:
            continue
        encode = asked.encoder._tokenizer
        both = [encode(one or "", add_special_tokens=False)["input_ids"] for one in (here.sql, there.sql)]
        number = next((i for i, (a, b) in enumerate(zip(*both, strict=False)) if a != b), min(map(len, both)))
        prompt = [*asked.encoder.prompt(questions[record.question_id]), *both[0][:number]]
        tokens = [encode.decode(one[number : number + 1]) for one in both]
        found.append(
            Difference(
                question_id=record.question_id,
                outcomes=(here.outcome.value, there.outcome.value),
                number=number,
                tokens=(tokens[0], tokens[1]),
                gap=_gap(url, model, prompt, tokens),
            )
        )
    return found


def _gap(url: str, model: str, prompt: Sequence[int], tokens: Sequence[str]) -> float | None:
    """Return by how many nats the server's token is ahead of the local one; below 0 where it isn't, this time."""
    body = {"model": model, "prompt": list(prompt), "max_tokens": 1, "temperature": 0, "logprobs": NUM_ALTERNATIVES}
    request = urllib.request.Request(
        f"{url}/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as response:
        (alternatives,) = json.load(response)["choices"][0]["logprobs"]["top_logprobs"]
    local, served = (alternatives.get(token) for token in tokens)
    return None if local is None or served is None else served - local


def asked_of(config: RunConfig) -> Asked:
    folder = model_folder(config, config.run.home_dir / "demo", weights=False)
    return asked_of_split(config, folder, Progress(make_console(stderr=True)))


def num_right(evaluation: Evaluation) -> int:
    return sum(one.greedy.outcome is Outcome.MATCH for one in evaluation.records)


def main(config: str, local: str, served: str, url: str, model: str, *overrides: str) -> None:
    asked = asked_of(load_config(Path(config), [*environment_overrides(), *overrides]))
    sides = [read_evaluation(Path(folder) / EVALUATION_FILE) for folder in (local, served)]
    print(f"right: {num_right(sides[0])} and {num_right(sides[1])} of {len(sides[0].records)}")
    for one in differences(asked, sides[0], sides[1], url, model):
        print(one.line())


if __name__ == "__main__":
    main(*sys.argv[1:])
