"""`floe.SqlReward` without a trainer: rewards, faults that are no completion's, threads, forks, and what it imports."""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import pickle
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from floe import ConfigError, SqlReward, UserError
from floe.cluster.messages import Outcome
from floe.reward_service.scorer import Scorer
from tests.score_requests import ENDLESS, GOLD, make_database

WRONG = "SELECT name FROM emp WHERE id = 1"
BROKEN = "SELECT name FROM nowhere"
BUSY_S = 0.5  # CPU time of a child that runs a query, and of no process that starts
HEAVY = ("ray", "vllm", "torch", "transformers", "deepspeed", "trl", "numpy", "pandas", "sqlalchemy", "sqlglot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    databases = tmp_path_factory.mktemp("databases")
    make_database(databases)
    make_database(databases, "other", script="CREATE TABLE emp(name); INSERT INTO emp VALUES ('Dee')")
    (databases / "torn").mkdir()
    (databases / "torn" / "torn.sqlite").write_bytes(b"no database, but long enough to be read as one" * 100)
    (databases / "empty").mkdir()
    (databases / "empty" / "empty.sqlite").touch()
    return databases


@pytest.fixture(scope="module")
def reward(folder) -> Iterator[SqlReward]:
    with SqlReward(folder, time_limit_s=0.5) as made:
        yield made


def children() -> set[int]:
    return {one.pid for one in psutil.Process().children(recursive=True)}


def wait_for_work(known: set[int]) -> None:
    """Wait until a process that is not known yet has run a query for a while."""
    while not any(cpu_s(pid) > BUSY_S for pid in children() - known):
        time.sleep(0.01)


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, 0 of one that has ended."""
    try:
        return psutil.Process(pid).cpu_times().user
    except psutil.NoSuchProcess:
        return 0.0


def ended(pids: set[int]) -> bool:
    """Wait until the processes are gone."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_texts_chats_and_parts_of_chats_get_1_and_a_tenth_and_0(reward):
    chat = [{"role": "assistant", "content": f"```sql\n{GOLD}\n```"}]
    in_parts = [
        {"role": "assistant", "content": "SELECT 1", "tool_calls": []},
        {"role": "tool", "content": GOLD},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "SELECT name "}, {"type": "text", "text": "FROM emp"}],
        },
    ]
    silent = [{"role": "assistant", "content": None}]
    completions = [GOLD, chat, in_parts, WRONG, BROKEN, "I don't know.", "", silent, []]
    scores = reward.score(completions, db_id="emp", gold_sql=GOLD)
    assert [one.reward for one in scores] == [1.0, 1.0, 1.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert scores[3].outcome is Outcome.MISMATCH and "no such table" in scores[4].message


def test_each_completion_is_judged_by_its_own_database_and_golds(reward):
    scores = reward.score(
        [GOLD, GOLD, "SELECT 1", "SELECT 2"],
        db_id=["emp", "other", "emp", "emp"],
        gold_sql=[GOLD, "SELECT 'Dee'", ["SELECT 2", "SELECT 1"], ["SELECT 2", "SELECT 1"]],
    )
    assert [one.reward for one in scores] == [1.0] * 4


def test_trl_gets_floats_and_a_name(reward):
    function = reward.trl()
    logged: dict[str, object] = {}
    found = function(
        prompts=["a", "a", "b"], completions=[GOLD, WRONG, BROKEN], completion_ids=[[1], [2], [3]], trainer_state=None,
        db_id=["emp"] * 3, gold_sql=[GOLD] * 3, log_extra=logged.__setitem__, log_metric=logged.__setitem__,
    )  # fmt: skip
    assert found == [1.0, 0.1, 0.0]
    assert function.__name__ == "sql_reward"
    assert logged == {
        "sql_outcome": ["match", "mismatch", "runtime_error"],
        "sql/match": pytest.approx(1 / 3),
        "sql/executes": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("missing", ["db_id", "gold_sql"])
def test_a_column_that_the_trainer_dropped_is_named(reward, missing):
    columns = {"db_id": ["emp"], "gold_sql": [GOLD]}
    del columns[missing]
    with pytest.raises(UserError, match=rf"no column {missing}: keep the columns .* remove_unused_columns=False"):
        reward.trl()(prompts=["a"], completions=[GOLD], completion_ids=[[1]], level=[2], **columns)


def test_a_column_of_a_near_name_shows_what_arrived(reward):
    columns = {"db": [1], "dbid": ["emp"], "gold": [GOLD], "completion_ids": [[1]], "trainer_state": None}
    with pytest.raises(UserError) as refused:
        reward.trl()(prompts=["a"], completions=[GOLD], **columns)
    assert "no column db_id and no column gold_sql (what arrived: db, dbid, gold): keep" in str(refused.value)


def test_a_call_without_any_reward_warns_once(reward):
    function = reward.trl(on_fault="none")
    some = {"completions": [GOLD, GOLD], "db_id": ["emp"] * 2, "gold_sql": [GOLD, BROKEN]}
    lost = {"completions": [GOLD], "db_id": ["emp"], "gold_sql": [BROKEN]}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert function(**some) == [1.0, None]
        assert not caught
        assert function(**lost) == function(**lost) == [None]
    assert [one.filename for one in caught] == [__file__]
    assert "All completions of a call got no reward, the first since gold SQL ended as" in str(caught[0].message)


@pytest.mark.parametrize(
    "db_id, gold, why",
    [
        (
            "emp",
            BROKEN,
            r"SELECT name FROM nowhere.* got no reward \(gold SQL ended as .*no such table.*SqlReward.check",
        ),
        ("emp", ENDLESS, r"got no reward \(gold SQL ended as timeout"),
        ("torn", GOLD, "no fault of the completion: fix it and go on from the trainer's last checkpoint"),
        ("lost", GOLD, "lost.*no fault of the completion"),
        ("../emp", GOLD, "no fault of the completion|plain name"),
    ],
)
def test_what_no_completion_is_to_blame_for_is_never_a_0(reward, db_id, gold, why):
    columns = {"completions": [GOLD, GOLD, GOLD], "db_id": ["emp", db_id, "emp"], "gold_sql": [GOLD, gold, GOLD]}
    with pytest.raises(UserError, match=why) as refused:
        reward.trl()(**columns)
    assert str(refused.value).count("\n") == 0 and "trl(on_fault='none')" in str(refused.value)
    assert reward.trl(on_fault="none")(**columns) == [1.0, None, 1.0]


def test_a_fault_that_passes_costs_no_reward(reward, monkeypatch):
    real, faults = Scorer.score, iter([Outcome.INFRASTRUCTURE])

    def score(self, request):
        fault = next(faults, None)
        return real(self, request) if fault is None else (SimpleNamespace(outcome=fault, reward=None),)

    monkeypatch.setattr(Scorer, "score", score)
    assert reward.trl()(completions=[GOLD], db_id=["emp"], gold_sql=[GOLD]) == [1.0]
    assert next(faults, None) is None
    faults = iter([Outcome.INFRASTRUCTURE])
    assert reward.check([{"db_id": "emp", "gold_sql": GOLD}]) == []
    assert next(faults, None) is None


@pytest.mark.parametrize(
    "columns, why",
    [
        ({"db_id": ["emp", "emp"], "gold_sql": [GOLD]}, "1 completions but 2 entries of db_id"),
        ({"db_id": [None], "gold_sql": [GOLD]}, "db_id of row 0 is None"),
        ({"db_id": ["emp"], "gold_sql": [None]}, "gold_sql of row 0 is None"),
        ({"db_id": ["emp"], "gold_sql": [["", "SELECT 1"]]}, "gold_sql of row 0 is"),
        ({"db_id": ["emp"], "gold_sql": [GOLD], "completions": [7]}, "A completion is int"),
        ({"db_id": ["emp"], "gold_sql": [GOLD], "completions": GOLD}, r"completions is one str: give a list, as in"),
        (
            {"db_id": ["emp"], "gold_sql": [GOLD, "SELECT 1"]},
            r"1 completions but 2 entries of gold_sql: give as many; a list of texts has one query for each "
            r"completion, and \[\[a, b\]\] \* 1 accepts several\.$",
        ),
        ({"db_id": ["emp"], "gold_sql": [[GOLD], [GOLD]]}, r"1 completions but 2 entries of gold_sql: give as many\.$"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(reward, columns, why):
    with pytest.raises(UserError, match=why):
        reward.trl()(**({"completions": [GOLD]} | columns))


def test_score_takes_several_golds_for_all_and_names_its_own_arguments(reward):
    golds = [["SELECT 2", "SELECT 1"]]
    assert [one.reward for one in reward.score(["SELECT 1", "SELECT 3"], db_id="emp", gold_sql=golds * 2)] == [1.0, 0.1]
    with pytest.raises(UserError, match=r"^db_id is None: give one text for all completions, or a list"):
        reward.score([GOLD], db_id=None, gold_sql=GOLD)
    with pytest.raises(UserError, match=r"^completions is one str: give a list"):
        reward.score(GOLD, db_id="emp", gold_sql=GOLD)


@pytest.mark.parametrize(
    "arguments, why",
    [
        ({"semantics": "fuzzy"}, "reward.semantics is 'fuzzy' in the arguments of SqlReward, but must be"),
        ({"time_limit": 3}, "Unknown key 'reward.time_limit'.*'reward.time_limit_s'"),
        ({"num_workers": 0}, "reward.num_workers is 0"),
        ({"design": "proof"}, "use reward.design=arctic"),
    ],
)
def test_wrong_settings_are_refused_before_training(folder, arguments, why):
    with pytest.raises(ConfigError, match=why):
        SqlReward(folder, **arguments)


def test_a_design_of_ones_own_is_taken_by_its_name_and_as_a_class_and_pickled(folder, tmp_path, monkeypatch):
    (tmp_path / "my_reward_of_trl.py").write_text(
        "from floe.plugins import Reward\n\n\n"
        "class Short:\n"
        "    def __init__(self, scale): self.scale = scale\n"
        "    def __call__(self, group): return [Reward(self.scale / len(one.sql or 'x')) for one in group.candidates]\n"
    )
    monkeypatch.chdir(tmp_path)
    columns = {"completions": [GOLD, WRONG], "db_id": ["emp"] * 2, "gold_sql": [GOLD] * 2}
    expected = [10 / len(GOLD), 10 / len(WRONG)]
    with SqlReward(folder, design="my_reward_of_trl:Short", arguments={"scale": 10}) as made:
        monkeypatch.chdir(folder)
        assert made.trl()(**columns) == expected
        with pickle.loads(pickle.dumps(made)) as copy:
            assert copy.trl()(**columns) == expected
    monkeypatch.syspath_prepend(str(tmp_path))
    short = importlib.import_module("my_reward_of_trl").Short
    with SqlReward(folder, design=short, arguments={"scale": 10}) as made:
        assert made.trl()(**columns) == expected
    with pytest.raises(UserError, match="define it at the top of a file"):
        SqlReward(folder, design=lambda group: [])


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no databases folder .*gone: give one"):
        SqlReward(tmp_path / "gone")


def test_check_names_the_golds_that_fail_by_row(reward):
    import pandas

    rows = [
        {"db_id": "emp", "gold_sql": GOLD},
        {"db_id": "emp", "gold_sql": BROKEN},
        {"db_id": "emp", "gold_sql": [BROKEN, GOLD]},
        {"db_id": "torn", "gold_sql": GOLD},
        {"db_id": "empty", "gold_sql": GOLD},
        {"db_id": "emp", "gold_sql": "DELETE FROM emp"},
    ]
    found = reward.check(rows)
    assert [(one.row, one.kind, one.has_other_gold) for one in found] == [
        (1, "gold", False), (2, "gold", True), (3, "database", False), (4, "database", False), (5, "gold", False),
    ]  # fmt: skip
    assert "torn.sqlite can't be opened" in found[2].message and "is empty (0 bytes)" in found[3].message
    assert str(found[0]).startswith("row 1, database 'emp': gold SQL ended as ") and BROKEN in str(found[0])
    assert reward.check(pandas.DataFrame(rows)) == found
    with pytest.raises(UserError, match="Row 0 of the dataset has no db_id and no gold_sql: add the column"):
        reward.check([{"question": "?"}])


def test_check_refuses_databases_that_are_not_there_and_names_the_nearest(reward, folder):
    ids = ["emp", "othr", "xyz", "othr", *(f"gone{number}" for number in range(5))]
    with pytest.raises(UserError) as refused:
        reward.check([{"db_id": one, "gold_sql": GOLD} for one in ids])
    assert str(refused.value) == (
        f"The folder {folder} has no database 'othr' of row 1 (nearest: 'other'), no 'xyz' of row 2, "
        "no 'gone0' of row 4, no 'gone1' of row 5, no 'gone2' of row 6 and 2 more: correct db_id, or put the file at "
        "<db_id>/<db_id>.sqlite."
    )


def test_verl_gets_one_float_at_a_time(reward):
    compute_score = reward.verl()
    golds = ["SELECT 2", "SELECT 1"]
    found = [
        compute_score("demo", sql, golds, {"db_id": "emp", "split": "train"}) for sql in ("SELECT 1", "SELECT 3", "?")
    ]
    assert found == [1.0, 0.1, 0.0]
    assert compute_score(data_source="demo", solution_str=GOLD, ground_truth=GOLD, extra_info={"db_id": "emp"}) == 1.0
    with pytest.raises(UserError, match="extra_info of a 'demo' row has no db_id"):
        compute_score("demo", GOLD, GOLD)
    with pytest.raises(UserError, match="got no reward"):
        compute_score("demo", GOLD, BROKEN, {"db_id": "emp"})


def test_several_threads_share_one(reward):
    def judge(number: int) -> list[float | None]:
        completions = [f"SELECT {number}", f"SELECT {number + 1}", BROKEN]
        return [one.reward for one in reward.score(completions, db_id="emp", gold_sql=f"SELECT {number}")]

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(judge, range(40))) == [[1.0, 0.1, 0.0]] * 40


def test_no_process_is_left_after_the_block_and_the_reward_says_that_it_is_closed(folder):
    before = children()
    with SqlReward(folder) as made:
        function = made.trl()
        assert function(completions=[GOLD], db_id=["emp"], gold_sql=[GOLD]) == [1.0]
        own = children() - before
        assert own
    assert ended(own)
    with pytest.raises(UserError, match="The reward was closed"):
        function(completions=[GOLD], db_id=["emp"], gold_sql=[GOLD])
    made.close()


@pytest.mark.parametrize("num_questions", [1, 4])
def test_a_reward_that_is_closed_at_its_work_says_so_and_does_not_wait(folder, num_questions):
    made = SqlReward(folder, time_limit_s=600)
    before = children()
    columns = {
        "completions": [ENDLESS] * num_questions,
        "db_id": ["emp"] * num_questions,
        "gold_sql": [f"SELECT {number}" for number in range(num_questions)],
    }
    with ThreadPoolExecutor(1) as thread:
        scoring = thread.submit(made.trl(), **columns)
        wait_for_work(before)
        own = children() - before
        made.close()
        with pytest.raises(UserError, match="The reward was closed"):
            scoring.result()
    assert ended(own)


def test_a_ctrl_c_ends_what_runs_and_the_reward_can_be_used_again(folder):
    code = (
        "from floe import SqlReward\n"
        f"reward = SqlReward({str(folder)!r}, time_limit_s=600)\n"
        "print('ready', flush=True)\n"
        "try:\n"
        f"    reward.score([{ENDLESS!r}, {ENDLESS!r} + ' -- too'], db_id='emp', gold_sql={GOLD!r})\n"
        "except KeyboardInterrupt:\n"
        f"    print(reward.score([{GOLD!r}], db_id='emp', gold_sql={GOLD!r})[0].reward)\n"
    )
    before = children()
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    wait_for_work(before | {started.pid})
    own = children() - before
    started.send_signal(signal.SIGINT)
    assert started.communicate() == ("ready\n1.0\n", None)
    assert started.returncode == 0
    assert ended(own)


def test_a_dropped_reward_leaves_no_process(folder):
    before = children()
    function = SqlReward(folder).trl()
    function(completions=[GOLD], db_id=["emp"], gold_sql=[GOLD])
    own = children() - before
    assert own
    del function
    assert ended(own)


def test_a_pickled_copy_works_by_itself(folder):
    with SqlReward(folder, semantics="strict", time_limit_s=0.7) as made:
        function = made.trl(on_fault="none")
        columns = {"completions": [GOLD, WRONG], "db_id": ["emp"] * 2, "gold_sql": [GOLD, BROKEN]}
        assert function(**columns) == [1.0, None]
        copy = pickle.loads(pickle.dumps(function))
    assert copy(**columns) == [1.0, None]
    assert copy.__name__ == function.__name__


def test_a_forked_process_starts_children_of_its_own_and_leaves_its_parents(folder):
    with SqlReward(folder, num_workers=1) as made:
        function = made.trl()
        columns = {"completions": [GOLD, WRONG], "db_id": ["emp"] * 2, "gold_sql": [GOLD] * 2}
        before = children()
        assert function(**columns) == [1.0, 0.1]
        of_parent = children() - before
        fork = multiprocessing.get_context("fork")
        ours, theirs = fork.Pipe()

        def work() -> None:
            theirs.send((function(**columns), children()))
            atexit._run_exitfuncs()  # which a program that calls os.fork runs at its end

        child = fork.Process(target=work)
        child.start()
        assert ours.poll(120)
        found, of_child = ours.recv()
        child.join()
        assert child.exitcode == 0
        assert found == [1.0, 0.1]
        assert of_child and not of_child & of_parent
        assert ended(of_child)
        num_before = len(children())
        assert function(**columns) == [1.0, 0.1]
        assert of_parent <= children() and len(children()) == num_before


def test_a_program_that_closes_nothing_imports_nothing_heavy_and_leaves_no_process(folder):
    code = (
        "import sys, psutil, floe\n"
        f"reward = floe.SqlReward({str(folder)!r})\n"
        f"print([one.reward for one in reward.score([{GOLD!r}, 'x'], db_id='emp', gold_sql={GOLD!r})])\n"
        f"print([name for name in {HEAVY} if name in sys.modules])\n"
        "print(*[one.pid for one in psutil.Process().children(recursive=True)])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rewards, heavy, pids = done.stdout.splitlines()
    assert rewards == "[1.0, 0.0]"
    assert heavy == "[]"
    assert pids and ended({int(pid) for pid in pids.split()})
    assert not done.stderr
