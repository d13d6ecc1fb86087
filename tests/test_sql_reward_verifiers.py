"""floe's reward in a taskset of verifiers, whose requirements exclude floe's: run it in an environment with verifiers.

pip install verifiers pytest psutil; pip install --no-deps .; pytest --noconftest tests/test_sql_reward_verifiers.py
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

from floe import SqlReward, UserError
from tests.score_requests import ENDLESS, GOLD, make_database

HAS_VERIFIERS = importlib.util.find_spec("verifiers") is not None
needs_verifiers = pytest.mark.skipif(not HAS_VERIFIERS, reason="verifiers needs openai<3, and floe openai>=3")
PACKAGE = """
from floe import SqlReward

ROWS = [
    {{"prompt": "All names?", "db_id": "emp", "gold_sql": {gold!r}, "question": "All names?", "id": "first"}},
    {{"prompt": [{{"role": "user", "content": "?"}}], "db_id": "emp", "gold_sql": ["SELECT 2", "SELECT 1"]}},
    {{"prompt": "Lost?", "db_id": "emp", "gold_sql": "SELECT name FROM nowhere"}},
]
REWARD = SqlReward({databases!r}, time_limit_s=0.5)
SqlTaskset = REWARD.verifiers(ROWS)
__all__ = ["SqlTaskset"]
"""


@pytest.fixture
def taskset(tmp_path, monkeypatch):
    """Return the taskset as verifiers loads it from an environment's package."""
    import verifiers.v1 as vf
    from verifiers.v1.utils.loaders import load_taskset

    make_database(tmp_path)
    package = tmp_path / "packages" / "my_sql"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE.format(databases=str(tmp_path), gold=GOLD))
    monkeypatch.syspath_prepend(str(package.parent))
    yield load_taskset(vf.TasksetConfig(id="my-sql"))
    sys.modules.pop("my_sql").REWARD.close()


def trace_of(task, reply: str):
    import verifiers.v1 as vf

    of_task = vf.TraceTask(type=type(task).__name__, data=task.data, hash=task.hash, key=task.key)
    agent = vf.AgentInfo.model_construct()
    return vf.Trace.model_construct(task=of_task, agent=agent, root_reply=reply)


def scored(task, *replies: str) -> list:
    traces = [trace_of(task, reply) for reply in replies]

    async def score() -> None:
        await asyncio.gather(*(task.score(trace) for trace in traces))

    asyncio.run(score())
    return traces


@needs_verifiers
def test_verifiers_own_scoring_gets_the_rewards(taskset):
    first, second, _ = taskset
    assert (first.data.id, first.data.prompt, first.data.idx, second.data.gold_sql) == (
        "first", "All names?", 0, ("SELECT 2", "SELECT 1"),
    )  # fmt: skip
    traces = scored(first, f"```sql\n{GOLD}\n```", "SELECT 1", ENDLESS, "DELETE FROM emp", "")
    assert [one.reward for one in traces] == [1.0, 0.1, 0.0, 0.0, 0.0]
    assert [one.info["sql_outcome"] for one in traces[:3]] == ["match", "mismatch", "timeout"]
    assert [one.reward for one in scored(second, "SELECT 1", "SELECT 2", "SELECT 3")] == [1.0, 1.0, 0.1]


@needs_verifiers
def test_a_gold_that_fails_is_an_error_of_the_task_and_no_reward(taskset):
    import verifiers.v1 as vf

    *_, lost = taskset
    trace = trace_of(lost, GOLD)
    with pytest.raises(vf.TaskError, match="no such table: nowhere"):
        asyncio.run(lost.score(trace))
    assert trace.rewards == {"sql": None}


@needs_verifiers
def test_a_row_without_a_prompt_is_refused(tmp_path):
    with SqlReward(tmp_path) as reward, pytest.raises(UserError, match="Row 0 of the dataset has no prompt"):
        reward.verifiers([{"db_id": "emp", "gold_sql": GOLD}])


@pytest.mark.skipif(HAS_VERIFIERS, reason="verifiers is there")
def test_without_the_package_a_sentence_says_how_to_install_it(tmp_path: Path):
    with SqlReward(tmp_path) as reward, pytest.raises(UserError, match="needs the package verifiers"):
        reward.verifiers([])
