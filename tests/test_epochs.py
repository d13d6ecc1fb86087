"""Runs by epochs: the questions of each step, the number of steps, and what a configuration and a resume make of it."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from floe.actors.questions.question_sets import QuestionSets
from floe.actors.questions.random_streams import questions_of_epochs_step, steps_of_epoch
from floe.cluster.checkpoints.resume_rules import check_resume
from floe.cluster.exports.model_card import shown_configuration
from floe.cluster.messages import Question
from floe.cluster.operations import time_planning
from floe.cluster.questions.epochs import epochs_sentence, with_num_steps
from floe.cluster.questions.of_step import refill_of_run, requests_of_step
from floe.cluster.report_page.overview import settings
from floe.cluster.run_folder.status_file import read_status
from floe.cluster.terminal.progress import Progress
from floe.cluster.time_plan.rates import REFERENCE
from floe.cluster.training.run_watch import run_watch
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import dump_config, load_config
from tests.test_time_planning import SETS
from tests.test_time_planning import Encoder as PlannedEncoder

SMOKE = Path(__file__).parent.parent / "configs" / "smoke.yaml"


def questions(count: int) -> tuple[Question, ...]:
    return tuple(
        Question(question_id=f"q{i}", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
        for i in range(count)
    )


def epoch_of(count: int, epoch: int, most: int, seed: int = 1) -> list[list[str]]:
    """Return the names of each step's questions."""
    num_steps = steps_of_epoch(count, most)
    steps = range(epoch * num_steps + 1, (epoch + 1) * num_steps + 1)
    return [[one.question_id for one in questions_of_epochs_step(questions(count), step, most, seed)] for step in steps]


@given(count=st.integers(1, 90), most=st.integers(1, 20), epoch=st.integers(0, 50), seed=st.integers(0, 2**31))
def test_an_epoch_asks_every_question_once_in_steps_of_one_length(count, most, epoch, seed):
    steps = epoch_of(count, epoch, most, seed)
    assert Counter(name for step in steps for name in step) == Counter(one.question_id for one in questions(count))
    lengths = {len(step) for step in steps}
    assert max(lengths) <= most and max(lengths) - min(lengths) <= 1
    assert (len(steps) - 1) * most < count  # no more steps than needed


def test_every_epoch_and_every_seed_has_an_order_of_its_own():
    orders = {str(epoch_of(40, epoch, 8, seed)) for epoch in range(4) for seed in range(4)}
    assert len(orders) == 16
    assert epoch_of(40, 2, 8) == epoch_of(40, 2, 8)


def config_of(*overrides: str):
    return load_config(SMOKE, ["rollout.questions_per_step=16", *overrides])


def test_steps_follow_from_epochs_and_questions():
    config = with_num_steps(config_of("run.num_epochs=3"), 100)
    assert config.run.num_steps == config.run.known_num_steps == 21
    assert epochs_sentence(config, 100) == "3 epochs of 100 questions: 21 steps of 14 or 15 questions"
    assert with_num_steps(config, 100) == config  # as a resume does
    by_steps = config_of()
    assert with_num_steps(by_steps, 100) is by_steps


def test_a_number_of_steps_that_is_another_and_one_too_large_are_refused(tmp_path):
    both = tmp_path / "both.yaml"
    both.write_text("run: {num_steps: 20, num_epochs: 3}\nrollout: {questions_per_step: 16}\n")
    with pytest.raises(UserError, match=r"21 steps with 100 training questions, but run.num_steps is 20: give one"):
        with_num_steps(load_config(both), 100)
    with pytest.raises(UserError, match=r"at most 999,999: lower run.num_epochs"):
        with_num_steps(config_of("run.num_epochs=200000"), 100)


def test_the_length_of_an_override_replaces_the_files(tmp_path):
    assert config_of().run.known_num_steps == 3
    by_epochs = config_of("run.num_epochs=2")
    assert (by_epochs.run.num_epochs, by_epochs.run.known_num_steps) == (2, None)
    file = tmp_path / "epochs.yaml"
    file.write_text("run: {num_epochs: 2}\n")
    by_steps = load_config(file, ["run.num_steps=5"])
    assert (by_steps.run.num_epochs, by_steps.run.known_num_steps) == (None, 5)
    with pytest.raises(ConfigError, match=r"twice, by the override run.num_steps=5 and the override run.num_epochs=2"):
        config_of("run.num_epochs=2", "run.num_steps=5")


def test_a_sampler_without_epochs_is_refused():
    with pytest.raises(ConfigError, match=r"run.num_epochs is 2, but data.sampler 'middle' draws"):
        config_of("run.num_epochs=2", "data.source=prepared", "data.prepared=x", "data.sampler=middle")


@pytest.mark.parametrize("is_known", [False, True])
def test_what_a_run_writes_is_read_back(tmp_path, is_known):
    config = config_of("run.num_epochs=3")
    config = with_num_steps(config, 100) if is_known else config
    dump_config(config, tmp_path / "config.yaml")
    found = load_config(tmp_path / "config.yaml")
    assert found == config
    assert found.run.known_num_steps == (21 if is_known else None)


def test_report_and_model_card_tell_the_epochs():
    config = with_num_steps(config_of("run.num_epochs=3"), 100)
    facts = {fact.label: fact.value for fact in settings(config)}
    assert facts["epochs"] == "3" and "epochs" not in {fact.label for fact in settings(config_of())}
    shown = shown_configuration(config, "base")["run"]
    assert (shown["num_epochs"], shown["num_steps"]) == (3, 21)
    assert "num_epochs" not in shown_configuration(config_of(), "base")["run"]


def resumed(before: tuple[str, ...], after: tuple[str, ...]) -> list[str]:
    saved = json.loads(json.dumps(with_num_steps(config_of(*before), 100).model_dump(mode="json")))
    return check_resume(saved, config_of(*after))


def test_a_resume_may_have_more_epochs_and_no_other_kind_of_length():
    assert resumed(("run.num_epochs=3",), ("run.num_epochs=3",)) == []
    (line,) = resumed(("run.num_epochs=3",), ("run.num_epochs=4",))
    assert line.startswith("run.num_epochs (3 -> 4): the learning rate's schedule")
    for before, after in (
        ("run.num_epochs=3", "run.num_epochs=2"), ("run.num_epochs=3", "run.num_steps=50"),
        ("run.num_steps=3", "run.num_epochs=9"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=r"run.num_epochs"):
            resumed((before,), (after,))


class Encoder:
    def training_prompt(self, question: Question) -> tuple[int, ...]:
        return (1, 2)


def test_refill_asks_others_and_takes_nothing_from_the_epoch():
    sets = QuestionSets(train=questions(50), tune=(), test=(), databases_dir=Path("nowhere"))
    plain = config_of("run.num_epochs=2")
    refilled = config_of("run.num_epochs=2", "algorithm.kl_coefficient=0", "algorithm.max_refill_rounds=2")
    asked: Counter[str] = Counter()
    for step in range(1, 9):
        first, same = (
            [one.question.question_id for one in requests_of_step(config, Encoder(), sets, step)]
            for config in (plain, refilled)
        )
        further = refill_of_run(refilled, Encoder(), sets).requests(step, num_before=0, num_wanted=5)
        assert first == same
        asked.update(first)
        assert len(further) == 5 and not {one.question.question_id for one in further} & set(first)
    assert asked == Counter({one.question_id: 2 for one in sets.train})


def test_floe_plan_counts_the_steps_of_epochs(monkeypatch):
    monkeypatch.setattr(time_planning, "sets_of_run", lambda config: SETS)
    monkeypatch.setattr(time_planning, "model_folder", lambda *given, **options: Path("nowhere"))
    monkeypatch.setattr(time_planning, "encoder_of_run", lambda *given: PlannedEncoder())
    config = config_of("run.num_epochs=3", "warm_start.enabled=false")
    plan = time_planning.plan_before(config, measure=lambda shape, config: REFERENCE)
    assert len(SETS.train) == 20 and plan.num_steps == 6


def test_the_status_has_the_steps_once_they_are_known(tmp_path):
    progress = Progress(Console(file=io.StringIO()))
    with run_watch(tmp_path, 0, progress):
        assert read_status(tmp_path).num_steps == 0
        progress.num_steps = 21
    assert read_status(tmp_path).num_steps == 21
