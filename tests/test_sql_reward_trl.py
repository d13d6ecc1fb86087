"""floe's reward in TRL's own GRPOTrainer: two steps on a model of a few kilobytes, hostile completions among them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from transformers import AutoTokenizer

from floe import SqlReward, UserError
from tests.score_requests import ENDLESS, GOLD, make_database
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parent.parent
HOSTILE = (
    ENDLESS,
    "SELECT group_concat(hex(zeroblob(1000000)), '') FROM emp a, emp b, emp c, emp d, emp e, emp f",
    "ATTACH 'made.db' AS made",
    "INSERT INTO emp VALUES (4, 'Eve', 'it')",
    "SELECT load_extension('libc.so.6', 'puts')",
    "PRAGMA user_version = 7",
)
COMPLETIONS = (GOLD, "SELECT 1", *HOSTILE)
REWARDS = [1.0, 0.1, *[0.0] * len(HOSTILE)]
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] + ' ' }}{% endfor %}"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_llama(folder)
    save_word_tokenizer(folder, 64)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def databases(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "databases"
    folder.mkdir()
    make_database(folder)
    monkeypatch.chdir(folder)  # where `made.db` would be
    return folder


def new_trainer(model: Path, reward_function, rows, output: Path, completions_of_first_step):
    """Return TRL's trainer; in its first step the model's completions are replaced by the given ones."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    class Scripted(GRPOTrainer):
        def _calculate_rewards(self, inputs, prompts, completions, *rest):
            written = completions_of_first_step if self.state.global_step == 0 else completions
            return super()._calculate_rewards(inputs, prompts, list(written), *rest)

    settings = GRPOConfig(
        output_dir=str(output), use_cpu=True, bf16=False, max_steps=2, num_generations=len(COMPLETIONS),
        per_device_train_batch_size=len(COMPLETIONS), max_completion_length=8, learning_rate=1e-2, logging_steps=1,
        report_to=[], save_strategy="no", seed=1,
    )  # fmt: skip
    return Scripted(
        model=str(model), reward_funcs=reward_function, args=settings, train_dataset=Dataset.from_list(rows)
    )


def test_two_steps_with_hostile_completions(model, databases, tmp_path):
    database = databases / "emp" / "emp.sqlite"
    content, files = database.read_bytes(), sorted(databases.rglob("*"))
    rows = [
        {"prompt": "w2 w3", "db_id": "emp", "gold_sql": [GOLD]},
        {"prompt": "w4", "db_id": "emp", "gold_sql": [GOLD]},
    ]
    seen: list[list[float | None]] = []
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with SqlReward(databases, time_limit_s=0.5) as reward:
        function = reward.trl()

        def noted(**columns):
            seen.append(function(**columns))
            return seen[-1]

        trainer = new_trainer(model, noted, rows, tmp_path / "output", COMPLETIONS)
        weights = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
        trainer.train()
        children = {one.pid for one in psutil.Process().children(recursive=True)} - before
        assert children
    assert seen == [REWARDS, [0.0] * len(REWARDS)]  # the model's own words are no SQL
    first, second = (one for one in trainer.state.log_history if "reward" in one)
    assert first["rewards/noted/mean"] == pytest.approx(sum(REWARDS) / len(REWARDS))
    assert first["sql/match"] == pytest.approx(1 / len(REWARDS))
    assert first["grad_norm"] > 0 and second["step"] == 2
    assert any((one != weights[name]).any() for name, one in trainer.model.named_parameters())
    assert database.read_bytes() == content
    assert sorted(databases.rglob("*")) == files
    assert not psutil.wait_procs([psutil.Process(pid) for pid in children if psutil.pid_exists(pid)], timeout=30)[1]


def test_a_gold_that_fails_ends_the_training_or_is_left_out(model, databases, tmp_path):
    rows = [{"prompt": "w2", "db_id": "emp", "gold_sql": "SELECT name FROM nowhere"}]
    with SqlReward(databases) as reward:
        with pytest.raises(UserError, match=r"no such table: nowhere.*drop the row"):
            new_trainer(model, reward.trl(), rows, tmp_path / "first", COMPLETIONS).train()
        trainer = new_trainer(model, reward.trl(on_fault="none"), rows, tmp_path / "second", COMPLETIONS)
        weights = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
        trainer.train()
    first = trainer.state.log_history[0]
    assert first["reward"] is None  # no completion counts as one with a reward of 0
    assert all((one == weights[name]).all() for name, one in trainer.model.named_parameters())


def run_example(folder: Path, model: Path, make_code: Callable[[str], str], *launcher: str) -> str:
    """Run the page's example in a folder with its database and a small model in the place of its own; return stdout."""
    page = (ROOT / "docs" / "trainers.md").read_text()
    example = next(code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "GRPOTrainer" in code)
    place = folder / re.search(r'model="([^"]+)"', example).group(1)  # such a folder comes before the hub's model
    place.parent.mkdir(parents=True)
    place.symlink_to(model)
    (folder / "train.py").write_text(make_code(example))
    script = "CREATE TABLE customers(id, city); INSERT INTO customers VALUES (1, 'Oslo'), (2, 'Rome')"
    (folder / "databases").mkdir()
    make_database(folder / "databases", "shop", script=script)
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *launcher, "train.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_example_of_the_page_runs_as_it_stands(model, tmp_path):
    output = run_example(tmp_path, model, str)
    assert "'rewards/sql_reward/mean': " in output


@pytest.mark.soak
def test_each_of_two_ranks_has_children_of_its_own(model, tmp_path):
    pids_now = "' '.join(str(one.pid) for one in psutil.Process().children(recursive=True))"
    told = f"pathlib.Path('pids-' + os.environ['RANK']).write_text({pids_now})"

    def on_two_ranks(example: str) -> str:
        example = example.replace("per_device_train_batch_size=8", "per_device_train_batch_size=4, use_cpu=True")
        example = example.replace("    trainer.train()", f"    trainer.train()\n    {told}")
        return f"import os, pathlib, psutil\n{example}"

    run_example(tmp_path, model, on_two_ranks, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    pids = [set(map(int, path.read_text().split())) for path in tmp_path.glob("pids-*")]
    assert len(pids) == 2 and all(pids) and not pids[0] & pids[1]
    assert not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for one in pids for pid in one)
