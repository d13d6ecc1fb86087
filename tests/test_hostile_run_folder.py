"""Run folders from strangers: every file of one may hold anything, and the page still comes, or one sentence."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from floe.cluster.evaluation.before_after_table import EvaluationReport
from floe.cluster.evaluation.results import last_step, read_report
from floe.cluster.operations.report import report
from floe.cluster.report_page import shown_rollouts as run_rollouts
from floe.cluster.report_page.figures import policies_figure
from floe.cluster.run_folder.status_file import found_status
from floe.configs.errors import UserError
from floe.configs.schema import LoraSection
from floe.learner.adapter.files import read_adapter, write_adapter
from tests.run_folders import small_run
from tests.sampling import sampled

FILES = (
    "config.yaml", "status.json", "metrics.jsonl", "report.json", "rollouts.sqlite", "adapters/best.json",
    "evaluations/start/evaluation.json", "evaluations/trained/evaluation.json",
)  # fmt: skip
CONTENTS: dict[str, bytes] = {
    "nothing": b"",
    "deep": b"[" * 200_000,
    "deep lines": (b'{"step":' * 50_000 + b"\n") * 3,
    "noise": bytes(range(256)) * 50,
    "null": b"null\n",
    "other types": b'{"step": {"a": []}, "state": 3, "rows": "x", "records": [1], "identity": 7, "greedy": [] }\n',
    "endless numbers": b'{"step": 1e999, "greedy": NaN, "adapter_version": "' + b"9" * 5000 + b'"}\n',
    "long number": b'{"step": ' + b"9" * 5000 + b"}\n",
}


def written(run_dir: Path) -> bool:
    """Return whether a page came; otherwise it was one sentence of at most a few lines."""
    assert last_step(run_dir / "metrics.jsonl") >= 0
    found_status(run_dir)
    try:
        report(run_dir, None, opens=False)
    except UserError as refusal:
        assert "\n" not in str(refusal) and len(str(refusal)) < 1000
        return False
    return (run_dir / "report.html").is_file()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return small_run(tmp_path_factory.mktemp("hostile") / "run")


@pytest.fixture
def replaced(run: Path):
    """Put something in place of one of the run's files, for one test."""
    kept: list[tuple[Path, bytes | None]] = []

    def replace(name: str, make: Callable[[Path], object]) -> Path:
        path = run / name
        kept.append((path, path.read_bytes() if path.is_file() else None))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        make(path)
        return run

    yield replace
    for path, content in kept:
        path.unlink()
        if content is not None:
            path.write_bytes(content)


# Each file and each content is in one of the sample's eight.
PAIRS = [(name, content) for name in FILES for content in CONTENTS]
SAMPLE = [pair for pair in PAIRS if (FILES.index(pair[0]) + list(CONTENTS).index(pair[1])) % 8 == 0]


@pytest.mark.parametrize("pair", sampled(PAIRS, in_every_lane=SAMPLE), ids="-".join)
def test_a_file_of_anything_is_a_sentence_or_leaves_its_part_out(pair, replaced):
    name, content = pair
    written(replaced(name, lambda path: path.write_bytes(CONTENTS[content])))


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file_holds_nothing_up(name, replaced):
    written(replaced(name, os.mkfifo))


ENDLESS = """
CREATE VIEW rollouts AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
SELECT 1 AS id, 1 AS step, i AS group_index, 'q' AS question_id, 'shop' AS database_id, 'Q' AS question,
       0 AS sample_index, '' AS completion, '' AS sql, 1.0 AS reward, 'match' AS outcome, '' AS message, 0 AS seconds,
       1 AS adapter_version, 1 AS num_tokens, 0 AS truncated, 0 AS advantage, 0 AS design_s FROM n
"""
ODD_TYPES = """
CREATE TABLE rollouts AS SELECT 1 AS id, 'one' AS step, x'00' AS group_index, 7 AS question_id, NULL AS database_id,
       3.5 AS question, 'a' AS sample_index, 9 AS completion, x'ff' AS sql, 'much' AS reward, {outcome} AS outcome,
       5 AS message, 0 AS seconds, 'b' AS adapter_version, 'c' AS num_tokens, 'd' AS truncated, 0 AS advantage,
       0 AS newest_adapter_version, 0 AS design_s
"""


def database_of(script: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)

    return make


def test_rollouts_without_an_end_are_given_up(replaced, monkeypatch):
    monkeypatch.setattr(run_rollouts, "READ_LIMIT_S", 0.5)
    run_dir = replaced("rollouts.sqlite", database_of(ENDLESS))
    assert written(run_dir)
    assert "The rollouts can" in (run_dir / "report.html").read_text()


@pytest.mark.parametrize("outcome", ["'match'", "'glorious'", "NULL"])
def test_rollouts_of_odd_types_are_left_out(outcome, replaced):
    assert written(replaced("rollouts.sqlite", database_of(ODD_TYPES.format(outcome=outcome))))


def test_a_policys_name_is_text_and_no_link_in_the_figure(run):
    found = read_report(run)
    assert isinstance(found, EvaluationReport)
    for row in found.rows:
        object.__setattr__(row, "name", '<a href="https://example.org/">best</a>')
    figure = policies_figure(found)
    assert figure.plot is not None and "<a " not in str(figure.plot["data"])


@pytest.mark.parametrize("fault", ["deep", "not finite", "infinite"])
def test_an_adapter_that_can_not_be_gone_on_with_is_refused_in_a_sentence(tmp_path, fault):
    lora = LoraSection(rank=1, alpha=4, target_modules=["q_proj"])
    write_adapter(tmp_path / "adapter", b"", lora, tmp_path)
    value = {"deep": 1.0, "not finite": float("nan"), "infinite": float("inf")}[fault]
    tensors = {f"base.layers.0.self_attn.q_proj.lora_{one}.weight": torch.full((2, 2), value) for one in "AB"}
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")
    if fault == "deep":
        (tmp_path / "adapter" / "adapter_config.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match="nested too deeply" if fault == "deep" else "no finite numbers") as refusal:
        read_adapter(tmp_path / "adapter", lora)
    assert "\n" not in str(refusal.value) and str(tmp_path / "adapter") in str(refusal.value)
