"""A run's posterior: what each step knows, whatever the load; resumes, refills, mixtures and sizes of groups."""

import random
import threading
from pathlib import Path

import pytest

from floe.actors.questions.question_sets import QuestionSets
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.loop.generation import Ahead, InTurn
from floe.cluster.messages import Outcome, Question, Score
from floe.cluster.questions.collector import step_collector
from floe.cluster.questions.of_step import refill_of_run, requests_of_step
from floe.cluster.questions.run_posterior import EVIDENCE_FILE, RunPosterior, posterior_of_run
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig
from tests.fake_cluster import FakeCluster
from tests.mixtures import mixture_of, source_folder
from tests.scored_groups import scored_group

NUM_STEPS, NUM_QUESTIONS = 12, 30
PASS_RATES = {f"q{i}": (0.0, 0.1, 0.5, 0.9, 1.0)[i % 5] for i in range(NUM_QUESTIONS)}


class NoPrompts:
    answer_start = ""

    def training_prompt(self, question: Question) -> tuple[int, ...]:
        return (1, 2)


class Judged(FakeCluster):
    """Gives each candidate a verdict by its question's pass rate and its own text."""

    def result(self, ticket):
        def is_right(completion):
            return random.Random(completion).random() < PASS_RATES.get(ticket.question_id, 0.3)

        rights = [is_right(candidate.completion) for candidate in ticket.candidates]
        return tuple(
            Score(outcome=Outcome.MATCH if one else Outcome.MISMATCH, reward=float(one), seconds=0.0) for one in rights
        )


def config(**sections) -> RunConfig:
    base = {
        "run": {"seed": 3, "num_steps": NUM_STEPS},
        "data": {"sampler": "posterior"},
        "rollout": {"questions_per_step": 3, "group_size": 8, "min_group_size": 2, "max_group_size": 24},
        "algorithm": {"kl_coefficient": 0.0},
    }
    return RunConfig.model_validate({name: base.get(name, {}) | sections.get(name, {}) for name in {*base, *sections}})


def sets(count: int = NUM_QUESTIONS) -> QuestionSets:
    questions = tuple(
        Question(question_id=f"q{i}", database_id="shop", text="How many?", gold_sql=("SELECT 1",))
        for i in range(count)
    )
    return QuestionSets(databases_dir=Path(), train=questions, tune=(), test=())


def asked(groups) -> list[tuple[str, int]]:
    return [(group.rollout.question.question_id, len(group.scores)) for group in groups]


def run(settings: RunConfig, posterior: RunPosterior, first_step: int = 1, save: Path | None = None, pool=None):
    """Return what the steps ask; the learner publishes as the main loop does, and each step is saved."""
    cluster = Judged()
    collect = step_collector(settings, NoPrompts(), pool or sets(), cluster, cluster, posterior)
    if settings.rollout.max_staleness:
        generation = Ahead(
            collect, num_steps=NUM_STEPS, max_staleness=settings.rollout.max_staleness, in_turns=False, timeout_s=60,
            first_step=first_step,
        )  # fmt: skip
    else:
        generation = InTurn(collect)
    found = {}
    for step in range(first_step, NUM_STEPS + 1):
        taken = generation.take(step)
        found[step] = asked(taken.groups), taken.draw
        generation.note_published(step)
        if save is not None:
            folder = save / str(step)
            folder.mkdir()
            posterior.save(folder, step)
    generation.close()
    return found


def test_the_rates_that_a_run_sees_change_what_it_asks_and_in_which_sizes():
    settings = config()
    found = run(settings, posterior_of_run(settings, sets()))
    assert all(sum(size for _, size in step) == 24 for step, _ in found.values())
    assert all(2 <= size <= 24 for step, _ in found.values() for _, size in step)
    assert len({size for step, _ in found.values() for _, size in step}) > 3
    first, last = found[1][1], found[NUM_STEPS][1]
    assert first.variance_expected == pytest.approx(first.variance_uniform)
    assert last.variance_expected > last.variance_uniform and last.num_never_drawn < first.num_never_drawn == 27


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
@pytest.mark.parametrize("max_refill_rounds", [0, 2])
def test_a_run_that_goes_on_from_any_step_asks_the_same(tmp_path, max_staleness, max_refill_rounds):
    settings = config(
        rollout={"max_staleness": max_staleness, "questions_per_step": 3, "group_size": 8, "min_group_size": 2,
                 "max_group_size": 24},
        algorithm={"kl_coefficient": 0.0, "max_refill_rounds": max_refill_rounds},
    )  # fmt: skip
    whole = run(settings, posterior_of_run(settings, sets()), save=tmp_path)
    assert (max(len(step) for step, _ in whole.values()) > 3) == bool(max_refill_rounds)
    for step in range(1, NUM_STEPS):
        posterior = posterior_of_run(settings, sets(), tmp_path / str(step))
        again = run(settings, posterior, first_step=step + 1)
        assert again == {number: whole[number] for number in range(step + 1, NUM_STEPS + 1)}


@pytest.mark.parametrize("max_staleness", [0, 2])
def test_a_step_knows_exactly_the_steps_that_are_old_enough(max_staleness):
    settings = config(rollout={"max_staleness": max_staleness})

    def before(step: int, right_at: int | None):
        posterior = posterior_of_run(settings, sets(2))
        for number in range(1, step):
            outcome = Outcome.MATCH if number == right_at else Outcome.MISMATCH
            posterior.note(number, [scored_group([(outcome, 1.0)] * 4, question_id="q0")])
        return posterior.before(step)

    newest = 6 - 1 - max_staleness
    assert before(6, right_at=newest) != before(6, right_at=None)
    for too_late in range(newest + 1, 6):
        assert before(6, right_at=too_late) == before(6, right_at=None)


def test_groups_that_came_early_are_not_saved_with_an_earlier_step(tmp_path):
    settings = config(rollout={"max_staleness": 2})
    saved = {}
    for num_ahead in (0, 2):
        posterior = posterior_of_run(settings, sets(2))
        for number in range(1, 5 + num_ahead):
            posterior.before(number)
            posterior.note(number, [scored_group([(Outcome.MATCH, 1.0)], question_id="q0")])
        folder = tmp_path / str(num_ahead)
        folder.mkdir()
        posterior.save(folder, 4)
        again = posterior_of_run(settings, sets(2), folder)
        saved[num_ahead] = again.before(5), again.num_never_drawn()
    assert saved[0] == saved[2]


def test_what_a_thread_notes_while_another_saves_is_whole(tmp_path):
    posterior = posterior_of_run(config(rollout={"max_staleness": 8}), sets(2))
    posterior.note(1, [scored_group([(Outcome.MATCH, 1.0)], question_id="q0")])
    thread = threading.Thread(
        target=lambda: [posterior.note(step, [scored_group([(Outcome.MATCH, 1.0)])]) for step in range(2, 3000)]
    )
    thread.start()
    for _ in range(50):
        posterior.save(tmp_path, 1)
    thread.join()
    assert len(posterior_of_run(config(), sets(2), tmp_path)._later) == 1


def test_a_checkpoint_without_the_evidence_is_refused(tmp_path):
    with pytest.raises(UserError, match=rf"has no {EVIDENCE_FILE}.*start anew without --resume"):
        posterior_of_run(config(), sets(), tmp_path)


def test_a_design_that_runs_nothing_has_no_pass_rates():
    posterior = posterior_of_run(config(), sets())
    with pytest.raises(UserError, match=r"step 1: reward\.design .* runs no candidate"):
        posterior.note(1, [scored_group([(Outcome.NOT_EXECUTED, 0.5)])])
    with pytest.raises(ValueError, match=r"data\.sampler is 'posterior', but reward\.design 'graph_reward' runs no"):
        config(reward={"design": "graph_reward", "graph_network": "net"})


def test_a_fault_of_the_infrastructure_is_no_wrong_answer():
    settings = config(data={"sampler": "posterior", "evidence_discount": 1.0})
    posterior = posterior_of_run(settings, sets(2))
    outcomes = [(Outcome.MATCH, 1.0), (Outcome.INFRASTRUCTURE, None), (Outcome.GOLD_FAILED, None)]
    posterior.note(1, [scored_group(outcomes, question_id="q0")])
    right_alone = posterior_of_run(settings, sets(2))
    right_alone.note(1, [scored_group(outcomes[:1], question_id="q0")])
    assert posterior.before(2) == right_alone.before(2)


def test_refill_rounds_go_on_in_the_order_of_the_draw():
    settings = config()
    posterior = posterior_of_run(settings, sets())
    requests = requests_of_step(settings, NoPrompts(), sets(), 1, posterior)
    refill = refill_of_run(settings, NoPrompts(), sets(), posterior).requests
    rounds = [refill(1, num_before=0, num_wanted=2), refill(1, num_before=2, num_wanted=40)]
    names = [one.question.question_id for one in (*requests, *rounds[0], *rounds[1])]
    whole = config(rollout={"questions_per_step": NUM_QUESTIONS})
    in_order = requests_of_step(whole, NoPrompts(), sets(), 1, posterior)
    assert names == [one.question.question_id for one in in_order]
    assert [sum(one.num_samples for one in requests) for requests in rounds] == [2 * 8, 25 * 8]


def test_a_uniform_draw_may_have_unequal_groups_too():
    settings = config(data={"sampler": "uniform"})
    alone = requests_of_step(config(data={"sampler": "uniform"}, rollout=EQUAL), NoPrompts(), sets(), 2)
    posterior = posterior_of_run(settings, sets())
    posterior.note(1, [scored_group([(Outcome.MISMATCH, 0.0)] * 16, question_id=alone[0].question.question_id)])
    sized = requests_of_step(settings, NoPrompts(), sets(), 2, posterior)
    assert [one.question for one in sized] == [one.question for one in alone]
    assert sum(one.num_samples for one in sized) == 24 and {one.num_samples for one in sized} != {8}


EQUAL = {"questions_per_step": 3, "group_size": 8, "min_group_size": None, "max_group_size": None}


def test_equal_groups_and_a_uniform_draw_keep_no_posterior():
    for rollout in (EQUAL, EQUAL | {"min_group_size": 8, "max_group_size": 8}):
        assert posterior_of_run(config(data={"sampler": "uniform"}, rollout=rollout), sets()) is None
    assert posterior_of_run(config(rollout=EQUAL), sets()) is not None


@pytest.mark.parametrize(
    ("rollout", "message"),
    [
        ({"min_group_size": 4}, r"rollout\.min_group_size is set, but rollout\.max_group_size is not: give both"),
        ({"max_group_size": 32}, r"rollout\.max_group_size is set, but rollout\.min_group_size is not: give both"),
        ({"min_group_size": 17, "max_group_size": 32}, r"rollout\.group_size is 16, but it is the mean of groups"),
    ],
)
def test_bounds_that_can_have_no_mean_of_the_group_size_are_refused(rollout, message):
    with pytest.raises(ValueError, match=message):
        RunConfig.model_validate({"rollout": rollout})


def test_a_mixture_keeps_its_quotas_and_draws_within_each_source(tmp_path):
    paths = [source_folder(tmp_path / name, 12) for name in ("a", "b")]
    settings = mixture_of(
        tmp_path, [{"path": paths[0], "weight": 2}, {"path": paths[1], "weight": 1}], data={"sampler": "posterior"}
    )
    pool = sets_of_run(settings)
    posterior = posterior_of_run(settings, pool)
    known = {name: [(Outcome.MATCH, 1.0), (Outcome.MISMATCH, 0.0)] * 8 for name in ("a:train0", "b:train0")}
    wrong = [(Outcome.MISMATCH, 0.0)] * 16
    names = [one.question_id for one in pool.train]
    posterior.note(1, [scored_group(known.get(name, wrong), question_id=name) for name in names])
    counted = dict.fromkeys(names, 0)
    for step in range(2, 40):
        if step > 2:
            posterior.note(step - 1, [])
        requests = requests_of_step(settings, NoPrompts(), pool, step, posterior)
        own = [one.question.question_id for one in requests]
        assert [sum(name.startswith(source) for name in own) for source in "ab"] == [2, 1]
        for name in own:
            counted[name] += 1
        rest = refill_of_run(settings, NoPrompts(), pool, posterior).requests(step, num_before=0, num_wanted=99)
        assert sorted([*own, *(one.question.question_id for one in rest)]) == sorted(names)
        assert [one.question.source for one in rest[:3]].count("a") == 2
    for source in ("a", "b"):
        of_source = {name: number for name, number in counted.items() if name.startswith(source)}
        assert max(of_source, key=of_source.__getitem__) == f"{source}:train0"
