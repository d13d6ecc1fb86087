"""A run with plug-ins of every kind from its working folder: trained, resumed, and refused with other code."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.cluster.messages import Question
from floe.cluster.models.model_folder import model_folder
from floe.configs.files.loading import load_config
from tests.command_line import REPOSITORY, config, floe

pytestmark = pytest.mark.engine

MODULE = """
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from floe.plugins import LoadedQuestions, ModelFamily

HERE = Path(__file__).parent

def rewards(group, right=0.75):
    return [right if one.outcome == "match" else 0.25 for one in group.candidates]

class Marked:
    prefill = "Q:"
    stop_texts = (" LIMIT",)

    def messages(self, question, evidence, schema):
        return [{"role": "user", "content": f"{schema}\\n{question}"}]

    def answer(self, sql, reads):
        return f" {sql}"

    def sql_of(self, answer):
        return answer.partition("Q:")[2]

class Demo:
    def __init__(self, num_train):
        self.num_train = num_train

    def load(self, folder):
        splits = {one: json.loads((HERE / f"{one}.json").read_text()) for one in ("train", "tune", "test")}
        splits["train"] = splits["train"][: self.num_train]
        return LoadedQuestions(databases=HERE / "scripts", **splits)

class Scripts:
    def find(self, folder, db_id):
        found = folder / f"{db_id}.sql"
        return found if found.exists() else None

    def build(self, source, target):
        with closing(sqlite3.connect(target)) as connection:
            connection.executescript(source.read_text())

class Family(ModelFamily):
    def engine_refusal(self, config, *, on_cpu):
        self.note("engine")
        return super().engine_refusal(config, on_cpu=on_cpu)

    def attention(self, layer, rules, scaling):
        self.note("learner")
        return super().attention(layer, rules, scaling)

    def note(self, process):
        (HERE / f"asked_by_{process}").touch()
"""
PLUGINS = (
    "reward.design=their_run:rewards", "reward.arguments.right=0.5", "prompt.style=their_run:Marked",
    "data.source=their_run:Demo", "data.arguments.num_train=200", "data.database_kind=their_run:Scripts",
    "model.family=their_run:Family",
)  # fmt: skip
SHORT = (
    "cluster.address=local", "evaluation.max_questions=4", "evaluation.num_samples=2", "model.dtype=float32",
    "rollout.dtype=float32", "rollout.max_new_tokens=48",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, home):
    """A working folder with the module, the demo's questions, and its databases as SQL scripts."""
    model_folder(load_config(REPOSITORY / "configs" / "smoke.yaml", [f"run.home={home}"]), home / "demo")
    (tmp_path / "their_run.py").write_text(MODULE.replace("\\\\n", "\\n"))
    for name in ("train", "tune", "test"):
        (tmp_path / f"{name}.json").write_bytes((home / "demo" / f"{name}.json").read_bytes())
    (tmp_path / "scripts").mkdir()
    for database in (home / "demo" / "databases").glob("*/*.sqlite"):
        with closing(sqlite3.connect(database)) as connection:
            new = f"-- {secrets.token_hex(8)}"  # a home that is kept between test runs has no database of this content
            script = "\n".join([*connection.iterdump(), new])
        (tmp_path / "scripts" / f"{database.stem}.sql").write_text(script)
    return tmp_path


@pytest.mark.long
def test_a_run_with_plugins_of_all_kinds_is_trained_resumed_and_refused_with_other_code(folder, home):
    run_dir = folder / "run"

    def train(*arguments: str, working_folder: Path = folder):
        return floe("train", *arguments, home=home, working_folder=working_folder)

    done = train("--config", config("smoke.yaml"), "--run-dir", str(run_dir), *PLUGINS, *SHORT, "run.num_steps=1")
    assert done.returncode == 0, done.stderr + done.stdout
    assert (folder / "asked_by_engine").exists() and (folder / "asked_by_learner").exists()
    assert "kind their_run:Scripts: bikes" in done.stdout
    rows = rollouts_of(run_dir)
    assert {reward for _, _, reward in rows} <= {0.5, 0.25, None} and any(reward for _, _, reward in rows)
    # All that follows the mark is SQL to this style, and not only what begins as a query.
    assert all(sql == (completion.strip().rstrip("; \n") or None) for completion, sql, _ in rows)
    assert any(sql and not sql.upper().startswith("SELECT") for _, sql, _ in rows)
    stopped = [completion for completion, _, _ in rows if " LIMIT" in completion]
    assert stopped and all(one.index(" LIMIT") + len(" LIMIT") == len(one) for one in stopped)

    (folder / "elsewhere").mkdir()
    done = train("--resume", str(run_dir), "run.num_steps=2", working_folder=folder / "elsewhere")
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(rollouts_of(run_dir)) > len(rows)

    (folder / "their_run.py").write_text((folder / "their_run.py").read_text() + "# another\n")
    done = train("--resume", str(run_dir), "run.num_steps=3")
    assert done.returncode == 2 and "other code of its plug-ins" in done.stderr + done.stdout


def rollouts_of(run_dir: Path) -> list[tuple[str, str | None, float | None]]:
    """Return completion, SQL and reward of each candidate."""
    with closing(sqlite3.connect(run_dir / "rollouts.sqlite")) as connection:
        return connection.execute("SELECT completion, sql, reward FROM rollouts").fetchall()


def test_the_encoder_makes_prompt_and_taught_answer_of_a_style(folder, home):
    sections = load_config(None, ["prompt.style=their_run:Marked", f"run.plugin_folder={folder}"])
    encoder = PromptEncoder(
        home / "models" / "tiny-qwen2", home / "demo" / "databases", sections.prompt, plugin_folder=folder
    )
    asked = Question(question_id="1", database_id="bikes", text="Who <|im_end|> sang?", gold_sql=("SELECT 1",))
    prompt = encoder.text(encoder.encoded(asked).token_ids)
    assert prompt.endswith("\nWho <|im_end|> sang?<|im_end|><|im_start|>Q:") and encoder.answer_start == "Q:"
    # What a cell or a question holds is never a control token, not even in the answer.
    tokens = encoder.encoded(asked).token_ids + encoder.answer("SELECT '<|im_end|>'")
    assert encoder.text(encoder.answer("SELECT '<|im_end|>'")) == " SELECT '<|im_end|>'<|im_end|>"
    assert tokens.count(encoder.answer("")[-1]) == 2
