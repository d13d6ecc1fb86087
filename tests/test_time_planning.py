"""The time plan of a run's first screen: made from its questions and a measurement, used for its folder and limits."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from floe.actors.questions.question_sets import QuestionSets
from floe.cluster import cli
from floe.cluster.memory_plan.shapes.published import published_shape
from floe.cluster.messages import Question, WarmStartExample
from floe.cluster.models.model_folder import TINY_QWEN2
from floe.cluster.operations.time_planning import limited_run, limited_to_machine
from floe.cluster.run_folder.file_names import PLAN_FILE
from floe.cluster.terminal.progress import Progress
from floe.cluster.time_plan.measure import measure_rates
from floe.cluster.time_plan.plan_files import keep_mark, read_marks, read_plan, start_record
from floe.cluster.time_plan.rates import REFERENCE
from floe.cluster.training.warm_start import WarmStart
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from tests.test_forecast import PLAN, run

CONFIGS = Path(__file__).parent.parent / "configs"
QUESTIONS = tuple(
    Question(question_id=f"q{i}", database_id="shop", text="How many?", gold_sql=("SELECT 1",)) for i in range(20)
)
SETS = QuestionSets(train=QUESTIONS, tune=QUESTIONS, test=QUESTIONS, databases_dir=Path("nowhere"))
WARM_START = WarmStart(
    examples=tuple(
        WarmStartExample(database_id="shop", prompt_token_ids=(1,) * 100, answer_token_ids=(1,) * 20) for _ in QUESTIONS
    ),
    held_back=(WarmStartExample(database_id="shop", prompt_token_ids=(1,) * 100, answer_token_ids=(1,) * 20),),
    folder=Path("nowhere"),
)


class Encoder:
    """Prompts of 100 tokens and answers of 20."""

    def training_prompt(self, question):
        return (1,) * 100

    prompt = training_prompt

    def answer(self, sql):
        return (1,) * 20

    def encoded_for_training(self, question):
        return SimpleNamespace(refused=False)

    def lacks_gold(self, question, prompt):
        return False


def first_screen(config: RunConfig, run_dir: Path, rates=REFERENCE, num_steps_done: int = 0) -> tuple[str, RunConfig]:
    console = Console(file=io.StringIO(), width=300)
    progress = Progress(console, config.run.num_steps)
    progress.phase("set-up")
    limited = limited_run(
        config, Encoder(), SETS, WARM_START, run_dir, progress, num_steps_done, measure=lambda shape, config: rates
    )
    return console.file.getvalue(), limited


def test_a_run_says_its_time_and_keeps_the_plan(tmp_path):
    config = load_config(CONFIGS / "quickstart.yaml", [])
    text, limited = first_screen(config, tmp_path)
    plan = read_plan(tmp_path)
    assert "in all: start 30 s, warm start " in text and "18 steps of " in text
    assert plan.num_batches > 0 and plan.num_before == 2 * 20 * 9
    assert read_marks(tmp_path)[0].left_s == pytest.approx(plan.whole_s, abs=5)
    assert limited.start_limit_s == config.start_limit_s
    assert limited.cluster.step_timeout_s == config.cluster.step_timeout_s


def test_a_slow_machine_gets_longer_limits_and_hears_of_the_shorter_way(tmp_path):
    config = load_config(CONFIGS / "quickstart.yaml", [])
    text, limited = first_screen(
        config, tmp_path, replace(REFERENCE, learner_flop_per_s=19e9, compared_flop_per_s=19e9)
    )
    assert "20.0 times" in text and "configs/short.yaml" in text
    assert limited.rollout.stuck_after_s == 20 * config.rollout.stuck_after_s


@pytest.mark.parametrize(("num_times_slower", "said"), [(10, "10.0 times"), (0.5, "")])
def test_what_only_asks_gets_the_limits_of_its_machine_too(num_times_slower, said):
    config = load_config(CONFIGS / "quickstart.yaml", [])
    console = Console(file=io.StringIO(), width=300)
    rates = replace(REFERENCE, compared_flop_per_s=REFERENCE.compared_flop_per_s / num_times_slower)
    limited = limited_to_machine(config, Progress(console), measure=lambda shape, config: rates)
    longer = max(1, num_times_slower)
    assert said in console.file.getvalue() and bool(said) == bool(console.file.getvalue())
    assert limited.rollout.stuck_after_s == longer * config.rollout.stuck_after_s
    assert limited.start_limit_s == longer * config.start_limit_s


def test_a_run_that_goes_on_plans_what_is_left(tmp_path):
    text, _ = first_screen(load_config(CONFIGS / "quickstart.yaml", []), tmp_path, num_steps_done=15)
    assert "3 steps of" in text and "warm start" not in text


def test_a_warm_start_of_the_cache_takes_no_time(tmp_path, monkeypatch):
    monkeypatch.setattr(WarmStart, "is_made", True)
    text, _ = first_screen(load_config(CONFIGS / "quickstart.yaml", []), tmp_path)
    assert "warm start" not in text


def test_a_run_on_gpus_has_no_plan_and_its_own_limits(tmp_path):
    config = load_config(CONFIGS / "quickstart.yaml", ["learner.num_gpus=1"])
    text, limited = first_screen(config, tmp_path)
    assert "not known before a run on GPUs" in text and limited is config
    assert not (tmp_path / PLAN_FILE).exists()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_measurement_gives_rates(dtype):
    rates = measure_rates(published_shape(TINY_QWEN2), dtype, dtype, num_threads=1)
    assert min(rates.learner_flop_per_s, rates.engine_flop_per_s, rates.python_turns_per_s) > 0
    assert rates.learner_flop_per_s < 1e14


def test_the_measurement_leaves_the_threads_as_they_were():
    import torch

    before = torch.get_num_threads()
    measure_rates(published_shape(TINY_QWEN2), "float32", "float32", num_threads=before + 1)
    assert torch.get_num_threads() == before


def bench_time(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["floe", "bench", "time", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def test_the_bench_prints_planned_beside_seen(tmp_path, capsys, monkeypatch):
    start_record(tmp_path, PLAN)
    for mark in run(1, 2):
        keep_mark(tmp_path, mark)
    code, out, _ = bench_time(capsys, monkeypatch, str(tmp_path))
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines() if line.strip()}
    assert code == 0
    assert rows["evaluation before"][-3:] == ["120.0", "240.0", "0.50"]
    assert rows["warm start"][-1] == "1.00"
    assert "NOT within a factor of 1.5" in out and "from the third step on, the worst: " in out
    found = json.loads(bench_time(capsys, monkeypatch, str(tmp_path), "--json")[1])
    assert found["phases"][0] == {"phase": "warm start", "planned_s": 115.0, "seen_s": pytest.approx(115.0)}
    assert 1 / 1.3 < found["worst_from_third_step"] < 1.3


def test_the_bench_refuses_a_folder_without_a_plan_and_a_run_without_an_end(tmp_path, capsys, monkeypatch):
    code, _, err = bench_time(capsys, monkeypatch, str(tmp_path))
    assert code == 2 and "There is no time_plan.json" in err
    start_record(tmp_path, PLAN)
    code, _, err = bench_time(capsys, monkeypatch, str(tmp_path))
    assert code == 2 and "has not ended" in err and "Traceback" not in err
