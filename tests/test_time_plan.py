"""The plan of a run's time: its token counts, its seconds against those of real runs, its sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from floe.cluster.memory_plan.shapes.published import published_shape
from floe.cluster.messages import WarmStartExample
from floe.cluster.models.model_folder import SMOLLM2
from floe.cluster.time_plan.plan import TimePlan, plan_time
from floe.cluster.time_plan.rates import REFERENCE, MachineRates, slowdown
from floe.cluster.time_plan.sentences import limits_sentence, plan_sentence, shorter_way
from floe.cluster.time_plan.tokens import (
    TextLengths,
    Trained,
    WarmStartTokens,
    run_tokens,
    shared_texts,
    warm_start_tokens,
)
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig

CONFIGS = Path(__file__).parent.parent / "configs"
LENGTHS = TextLengths(prompt_tokens=110, answer_tokens=20)
# Float32 on two cores with AVX2: 95 GFLOP/s and more were measured.
AVX2 = MachineRates(learner_flop_per_s=97e9, engine_flop_per_s=95e9, compared_flop_per_s=97e9, python_turns_per_s=60e6)


def quickstart(*overrides: str) -> RunConfig:
    return load_config(CONFIGS / "quickstart.yaml", list(overrides))


WARM_START = WarmStartTokens(
    num_batches=50,
    max_batches=76,
    num_evaluations=6,
    batch=Trained(num_tokens=820, num_scored=350, num_pairs=80_000),
    held_back=Trained(num_tokens=3000, num_scored=1000, num_pairs=300_000),
)


def planned(config: RunConfig, rates: MachineRates = REFERENCE, num_steps_done: int = 0) -> TimePlan:
    warm_start = WARM_START if config.warm_start.enabled and num_steps_done == 0 else None
    asked = run_tokens(config, LENGTHS, warm_start, num_evaluated=100, num_steps_done=num_steps_done)
    return plan_time(config, published_shape(SMOLLM2), rates, asked)


def test_the_quickstart_is_planned_as_docs_quickstart_saw_it():
    plan = planned(quickstart())
    for found_s, seen_s in (
        (plan.step_s, 22.2),
        (plan.generation_s, 9.8),
        (plan.learning_s, 11.0),
        (plan.warm_start_s, 120),
        (plan.before_s, 120),
        (plan.after_s, 120),
        (plan.whole_s, 814),
    ):
        assert 1 / 1.5 <= found_s / seen_s <= 1.5, (found_s, seen_s)


def test_float32_with_avx2_is_planned_as_it_was_seen():
    assert 1 / 1.5 <= planned(quickstart(), AVX2).whole_s / 1817 <= 1.5
    groups = ["rollout.questions_per_step=8", "rollout.max_new_tokens=64", "warm_start.enabled=false"]
    plan = planned(quickstart(*groups, "algorithm.kl_coefficient=0.001"), AVX2)
    assert 1 / 1.5 <= plan.generation_s / 42 <= 1.5


def test_a_slower_machine_takes_longer_in_each_phase():
    slow = MachineRates(
        learner_flop_per_s=38e9, engine_flop_per_s=38e9, compared_flop_per_s=38e9, python_turns_per_s=6e6
    )
    fast, ten_times = planned(quickstart()), planned(quickstart(), slow)
    assert (fast.slowdown, ten_times.slowdown) == (1.0, 10.0)
    for name in ("start_s", "warm_start_s", "batch_s", "before_s", "generation_s", "learning_s", "rest_s", "after_s"):
        assert getattr(ten_times, name) == pytest.approx(10 * getattr(fast, name)), name
    assert ten_times.whole_s == pytest.approx(10 * fast.whole_s)


def test_the_slowest_part_says_how_slow_a_machine_is():
    assert slowdown(REFERENCE) == 1.0
    assert slowdown(replace(REFERENCE, compared_flop_per_s=2e12, python_turns_per_s=3e8)) == 1.0
    for name in ("compared_flop_per_s", "python_turns_per_s"):
        assert slowdown(replace(REFERENCE, **{name: getattr(REFERENCE, name) / 4})) == pytest.approx(4.0)
    # A small model's products are slow on any machine.
    assert slowdown(replace(REFERENCE, learner_flop_per_s=1e9, engine_flop_per_s=1e9)) == 1.0


def test_the_rest_of_a_run_has_neither_warm_start_nor_first_evaluation():
    whole, rest = planned(quickstart()), planned(quickstart(), num_steps_done=12)
    assert (rest.num_steps, rest.warm_start_s, rest.before_s, rest.num_before) == (6, 0.0, 0.0, 0)
    assert rest.step_s == whole.step_s and rest.after_s == whole.after_s
    assert rest.whole_s < whole.whole_s


def test_passes_beside_the_update_cost_their_third():
    plain = planned(quickstart("algorithm.drop_groups_without_match=true", "learner.gradient_checkpointing=false"))
    checkpointed = planned(quickstart("learner.gradient_checkpointing=true"))
    assert plain.learning_s * 1.3 < checkpointed.learning_s < plain.learning_s * 1.5
    assert plain.batch_s == checkpointed.batch_s


def test_evaluations_that_are_off_take_no_time():
    config = quickstart("evaluation.enabled=false")
    plan = planned(config)
    assert (plan.before_s, plan.after_s, plan.num_before, plan.num_after) == (0, 0, 0, 0)
    assert "evaluations" not in plan_sentence(plan)


def test_evaluations_between_steps_are_counted():
    config = quickstart("evaluation.every_steps=6")
    asked = run_tokens(config, LENGTHS, None, num_evaluated=100, num_interim_questions=50)
    plan = plan_time(config, published_shape(SMOLLM2), REFERENCE, asked)
    assert plan.num_interim == 4  # the start, and after 6, 12 and 18
    assert plan.steps_s == pytest.approx(18 * plan.step_s + 4 * plan.interim_s)


def example(database: str, *tokens: int) -> WarmStartExample:
    return WarmStartExample(database_id=database, prompt_token_ids=tokens, answer_token_ids=(7, 8))


def test_what_prompts_of_a_batch_begin_with_is_counted_once():
    found = shared_texts([example("a", 1, 2, 3), example("a", 1, 2, 4), example("a", 1, 2)])
    assert found == Trained(num_tokens=2 + 3 + 3 + 2, num_scored=6, num_pairs=2 + (6 + 4.5) + (6 + 4.5) + (4 + 2))


@pytest.mark.parametrize(("patience", "num_batches"), [(1, 8), (100, 10)])
def test_a_warm_start_that_may_end_early_is_expected_to(patience, num_batches):
    settings = {"batch_questions": 2, "max_epochs": 2, "evals_per_epoch": 2, "patience": patience}
    config = RunConfig.model_validate({"warm_start": settings})
    examples = [example("a", 1, i) for i in range(7)] + [example("b", 1, 9)]
    found = warm_start_tokens(config, examples, examples[:2])
    assert found.max_batches == 10  # four and one batches an epoch
    assert found.num_batches == num_batches


def test_a_warm_start_with_a_limit_of_answer_tokens_has_fewer_batches():
    config = RunConfig.model_validate({"warm_start": {"batch_questions": 2, "max_answer_tokens": 9}})
    found = warm_start_tokens(config, [example("a", 1, i) for i in range(8)], [example("a", 1)])
    assert found.max_batches == 3  # four answer tokens in each


def test_sampled_traces_and_the_supervised_term_take_time():
    config = quickstart()
    plain = planned(config)
    with_term = quickstart("algorithm.supervised_coefficient=0.1", "algorithm.supervised_questions=32")
    assert planned(with_term).learning_s > 1.2 * plain.learning_s
    asked = run_tokens(config, LENGTHS, WARM_START, num_evaluated=100, num_traced=500)
    assert plan_time(config, published_shape(SMOLLM2), REFERENCE, asked).warm_start_s > plain.warm_start_s + 10


def test_a_plan_survives_its_file():
    plan = planned(quickstart())
    assert TimePlan.from_json(plan.to_json()) == plan
    with pytest.raises(ValueError, match="no time plan"):
        TimePlan.from_json('{"start_s": 1}')


def test_the_middle_run_takes_about_a_third_of_the_quickstart():
    short = load_config(CONFIGS / "short.yaml", [])
    warm_start = replace(WARM_START, num_batches=25, max_batches=25, num_evaluations=2)
    for rates in (REFERENCE, AVX2):
        asked = run_tokens(short, LENGTHS, warm_start, num_evaluated=short.evaluation.max_questions)
        plan = plan_time(short, published_shape(SMOLLM2), rates, asked)
        assert 0.2 < plan.whole_s / planned(quickstart(), rates).whole_s < 0.4


def test_the_first_screen_says_it_and_names_the_shorter_way_where_it_is_long():
    plan = planned(quickstart())
    assert plan_sentence(plan).startswith("about ") and "18 steps of" in plan_sentence(plan)
    assert shorter_way(plan) == "" and limits_sentence(plan.slowdown) == ""
    long = planned(quickstart(), replace(AVX2, learner_flop_per_s=40e9, compared_flop_per_s=40e9))
    assert long.whole_s > 1800
    assert "configs/short.yaml" in shorter_way(long) and "configs/smoke.yaml" in shorter_way(long)
    assert shorter_way(planned(load_config(CONFIGS / "short.yaml", []))) == ""
    assert "9.5 times" in limits_sentence(long.slowdown)
