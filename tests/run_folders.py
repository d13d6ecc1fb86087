"""Folders as runs leave them, written without a run, for tests of code that reads them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from floe.cluster.evaluation.before_after_table import PolicyAnswers, evaluation_report
from floe.cluster.evaluation.saved_evaluation import Evaluation
from floe.cluster.messages import Outcome
from floe.cluster.run_folder.status import RunState, RunStatus
from floe.cluster.tracking.rollout_log import RolloutLog, rollouts
from floe.configs.files.loading import dump_config, load_config
from tests.evaluations import evaluation, record

SCRIPT = "CREATE TABLE item (name TEXT, price REAL); INSERT INTO item VALUES ('pen', 1.5), ('cup', 4), ('12', NULL);"
GOLD = "SELECT count(*) FROM item"
COLUMNS = [column.name for column in rollouts.columns if column.name != "id"]
RIGHT, WRONG, BROKEN = (GOLD, "match", 1.0), ("SELECT name FROM item", "mismatch", 0.1), ("SELEC", "syntax_error", 0.0)

Candidate = tuple[str | None, str, float | None]  # SQL, outcome, reward


def run_folder(
    folder: Path, *, num_questions: int = 4, question: str = "How many items, number {}?", overrides: Sequence[str] = ()
) -> Path:
    """Make a run's folder with its configuration alone, the database `shop` and so many questions."""
    data = folder.parent / f"{folder.name}-data"
    (data / "databases" / "shop").mkdir(parents=True)
    connection = sqlite3.connect(data / "databases" / "shop" / "shop.sqlite")
    connection.executescript(SCRIPT)
    connection.close()
    # Splits go by the gold's text where there are fewer than four databases.
    questions = [
        {"question_id": f"q{i}", "db_id": "shop", "question": question.format(i), "query": GOLD + " " * i}
        for i in range(num_questions)
    ]
    (data / "questions.json").write_text(json.dumps(questions))
    given = ["data.source=files", f"data.questions={data / 'questions.json'}", f"data.databases={data / 'databases'}"]
    folder.mkdir()
    dump_config(load_config(None, [*given, "rollout.group_size=16", *overrides]), folder / "config.yaml")
    return folder


def write_status(folder: Path, state: RunState, step: int, num_steps: int = 20, **changes: Any) -> RunStatus:
    """Write the status of a driver that is gone, unless `changes` name one that lives."""
    fields = {
        "state": state, "phase": "GRPO", "step": step, "num_steps": num_steps, "waits": (), "pid": 2**22 + 1,
        "started": 1_790_000_000.0, "host": "elsewhere", "updated": 1_790_000_100.0,
    }  # fmt: skip
    status = RunStatus(**fields | changes)
    (folder / "status.json").write_text(status.to_json())
    return status


def metrics_record(step: int, **changes: Any) -> dict[str, Any]:
    """Return a record as a step of synchronous training leaves it, with plausible numbers."""
    return {
        "step": step, "reward_mean": 0.2 + step / 10_000, "correct_share": 0.1 + step / 10_000, "kl": None,
        "logprob_mismatch_mean": 0.01, "logprob_mismatch_max": 0.4, "mean_completion_tokens": 30.0,
        "truncated_share": 0.01, "entropy_estimate": 0.4, "rollout_s": 10.0, "reward_s": 0.1, "learn_s": 5.0,
        "sync_s": 0.5, "step_s": 16.0, "learner_wait_s": 10.2, "outcome_match": 10, "outcome_mismatch": 20,
        "outcome_syntax_error": 2, "groups_by_staleness": [8],
    } | changes  # fmt: skip


def write_metrics(folder: Path, steps: Iterable[int], **changes: Any) -> None:
    lines = [json.dumps(metrics_record(step, **changes)) + "\n" for step in steps]
    (folder / "metrics.jsonl").write_text("".join(lines))


def write_rollouts(folder: Path, rows: Iterable[tuple]) -> None:
    """Write rows of COLUMNS, many of them in little time."""
    path = folder / "rollouts.sqlite"
    RolloutLog(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    marks = ", ".join("?" for _ in COLUMNS)
    connection.executemany(f"INSERT INTO rollouts ({', '.join(COLUMNS)}) VALUES ({marks})", rows)
    connection.commit()
    connection.close()


def group_rows(
    step: int,
    group_index: int,
    question_id: str,
    candidates: Sequence[Candidate],
    question: str | None = None,
    message: str = "",
) -> list[tuple]:
    """Return one row for each candidate; the question is the one that `run_folder` wrote under the id, unless given."""
    text = f"How many items, number {question_id[1:]}?" if question is None else question
    return [
        (
            step, group_index, question_id, "shop", text, i, sql or "I do not know.", sql, reward, outcome, message,
            0.001, step - 1, step - 1, 12, 0, None, 0.0, None,
        )
        for i, (sql, outcome, reward) in enumerate(candidates)
    ]  # fmt: skip


def write_evaluations(folder: Path, before: str, after: str, text: str = "How many items, number {}?") -> None:
    """Write greedy answers to q0, q1, ...: a 1 for each that is right; and the before/after table of the same."""
    sides = {"start": before, "trained": after}
    for name, flags in sides.items():
        saved: Evaluation = evaluation(
            *(record(f"q{i}", one == "1", num_correct=2, text=text.format(i)) for i, one in enumerate(flags))
        )
        saved.write(folder / "evaluations" / name)
    policies = [
        PolicyAnswers(
            name=name,
            temperature=0.8,
            question_ids=tuple(f"q{i}" for i in range(len(flags))),
            greedy_correct=tuple(one == "1" for one in flags),
            greedy_executes=(True,) * len(flags),
            num_samples=4,
            sample_num_correct=(2,) * len(flags),
            sample_num_executes=(4,) * len(flags),
        )
        for name, flags in (("warm start", before), ("GRPO", after))
    ]
    (folder / "report.json").write_text(evaluation_report(policies, num_resamples=200, seed=1).to_json())


def small_run(folder: Path, **changes: Any) -> Path:
    """Make a finished run of three steps with two questions each and an evaluation."""
    run_folder(folder, **changes)
    write_status(folder, RunState.FINISHED, 3, 3)
    write_metrics(folder, (1, 2, 3), eval_greedy=0.5, eval_executes=0.75, eval_num_questions=4, eval_is_best=True)
    rows = []
    for step in (1, 2, 3):
        rows += group_rows(step, 0, "q0", [RIGHT] * step + [WRONG] * (16 - step))
        rows += group_rows(step, 1, "q1", [BROKEN] * 15 + [(None, "no_sql", 0.0)], message="near SELEC: syntax error")
    write_rollouts(folder, rows)
    write_evaluations(folder, "0110", "1011")
    return folder


def long_run_rows(num_steps: int, num_groups: int, group_size: int = 16) -> Iterable[tuple]:
    """Return candidates of every kind of group, a third of whose SQL differs, with a completion of 300 characters."""
    outcomes = [outcome.value for outcome in (Outcome.MATCH, Outcome.MISMATCH, Outcome.SYNTAX_ERROR)]
    for step in range(1, num_steps + 1):
        for group in range(num_groups):
            for i in range(group_size):
                outcome = outcomes[0 if group % 4 == 0 else (i + group) % 3 if group % 4 == 1 else group % 3]
                sql = f"SELECT name, price FROM item WHERE price > {i % 6} ORDER BY {step % 2 + 1} -- group {group}"
                yield (
                    step, group, f"q{(step * num_groups + group) % 500}", "shop", "How many items?", i, sql + " " * 230,
                    sql, {"match": 1.0, "mismatch": 0.1}.get(outcome, 0.0), outcome, "", 0.001, step - 1, step - 1, 80,
                    0, None, 0.0, None,
                )  # fmt: skip
