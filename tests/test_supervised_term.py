"""The supervised term of GRPO's steps: its gradient, what is drawn, and that a run without it is as it was."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from floe.cluster.messages import Outcome, Question, Score, WarmStartExample
from floe.cluster.report_page.figures import step_figures
from floe.cluster.report_page.step_series import parse_metrics
from floe.cluster.run_folder.file_names import METRICS_FILE
from floe.cluster.time_plan.tokens import TextLengths, run_tokens
from floe.cluster.tracking.metrics_log import MetricsLog
from floe.cluster.training.supervised_term import WithSupervisedTerm, gold_answers, keep_traces, with_supervised_term
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.learner.answer_groups import answer_groups
from floe.learner.grpo_learner import GrpoLearner
from tests.step_records import step_record
from tests.test_learner_options import GROUPS, SHAPE, learner_with, randomise

ANSWERS = (
    WarmStartExample(database_id="shop", prompt_token_ids=(1, 2, 3), answer_token_ids=(4, 5)),
    WarmStartExample(database_id="shop", prompt_token_ids=(1, 2, 9), answer_token_ids=(6, 7, 8, 9)),
    WarmStartExample(database_id="zoo", prompt_token_ids=(2, 2), answer_token_ids=tuple(range(10, 30))),
)
EQUAL = [
    type(one)(rollout=one.rollout, scores=(Score(outcome=Outcome.MISMATCH, reward=0.1, seconds=0.0),) * 2)
    for one in GROUPS
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).save_pretrained(folder)
    return folder


def gradient_of(learner: GrpoLearner) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in learner._policy.parameters() if p.grad is not None])


def gradient_after(model_dir, groups, supervised=(), **algorithm) -> tuple[torch.Tensor, float | None]:
    """Return what the optimiser steps of one update have added up, and the term's reported loss."""
    torch.manual_seed(5)
    learner = learner_with(model_dir, kl_coefficient=0.0, **algorithm)
    randomise(learner._policy)
    report = learner.update(1, groups, supervised)
    return gradient_of(learner), report.supervised_loss


def by_hand(model_dir, answers=ANSWERS) -> tuple[torch.Tensor, float]:
    """Return gradient and value of the mean cross-entropy per token, one text at a time by the model's own forward."""
    torch.manual_seed(5)
    learner = learner_with(model_dir)
    randomise(learner._policy)
    learner._policy.get_base_model().set_attn_implementation("sdpa")
    total, num_tokens = torch.zeros(()), 0
    for one in answers:
        ids = torch.tensor([one.prompt_token_ids + one.answer_token_ids])
        logits = learner._policy(input_ids=ids).logits[0, len(one.prompt_token_ids) - 1 : -1].float()
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(one.answer_token_ids), reduction="sum")
        num_tokens += len(one.answer_token_ids)
    loss = total / num_tokens
    loss.backward()
    return gradient_of(learner), float(loss.detach())


def test_the_weights_of_a_batch_make_a_mean_over_its_answer_tokens():
    groups = answer_groups(ANSWERS)
    weights = [branch.weight for group in groups for branch in group.branches]
    assert len(groups) == 2 and weights == [1 / 26] * 3
    scored = sum(len(b.token_ids) - b.loss_from for group in groups for b in group.branches)
    assert scored == 26


@pytest.mark.parametrize("coefficient", [0.25, 3.0])
def test_the_gradient_is_the_sum_of_both_parts_in_each_optimiser_step(model_dir, coefficient):
    """The engine of these tests does not clear gradients: the two optimiser steps of an update are added up."""
    plain, nothing = gradient_after(model_dir, GROUPS)
    term, loss = by_hand(model_dir)
    mixed, reported = gradient_after(model_dir, GROUPS, ANSWERS, supervised_coefficient=coefficient)
    assert nothing is None and reported == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(mixed, plain + 2 * coefficient * term, rtol=1e-4, atol=1e-6)
    assert (mixed - plain).norm() > 0.1 * plain.norm() > 0


def test_without_groups_that_carry_a_gradient_the_term_alone_is_learned(model_dir):
    term, loss = by_hand(model_dir)
    mixed, reported = gradient_after(model_dir, EQUAL, ANSWERS, supervised_coefficient=0.5)
    torch.testing.assert_close(mixed, 0.5 * term, rtol=1e-4, atol=1e-6)
    assert reported == pytest.approx(loss, rel=1e-5)


def test_a_term_that_is_not_finite_is_named(model_dir):
    learner = learner_with(model_dir, supervised_coefficient=1.0)
    with torch.no_grad():
        learner._policy.get_base_model().model.embed_tokens.weight[29] = math.nan  # a token of the answers alone
    with pytest.raises(
        FloatingPointError, match=r"step 4: the supervised term \(algorithm.supervised_coefficient\) is"
    ):
        learner.update(4, EQUAL, (*ANSWERS[:2], WarmStartExample(
            database_id="zoo", prompt_token_ids=(29, 2), answer_token_ids=(5,))))  # fmt: skip


class Learner:
    def __init__(self) -> None:
        self.given: list[tuple[int, list[WarmStartExample]]] = []

    def update(self, step, groups, supervised=()):
        self.given.append((step, list(supervised)))


class Encoder:
    def training_prompt(self, one: Question) -> tuple[int, ...]:
        return (1, int(one.question_id))

    def answer(self, sql: str) -> tuple[int, ...]:
        return tuple(sql.encode())


QUESTIONS = [
    Question(question_id=str(n), database_id="shop", text="How many?", gold_sql=(f"SELECT {n}", "SELECT 0"))
    for n in range(20)
]


def test_a_step_gets_the_same_answers_whichever_steps_came_before():
    answers = gold_answers(QUESTIONS, Encoder())
    first, second = Learner(), Learner()
    for step in (1, 2, 3):
        WithSupervisedTerm(first, answers, 4, seed=7).update(step, [])
    WithSupervisedTerm(second, answers, 4, seed=7).update(3, [])
    assert first.given[2] == second.given[0] and first.given[0] != first.given[1]
    (step, drawn) = second.given[0]
    assert step == 3 and len(drawn) == 4
    for one in drawn:
        assert bytes(one.answer_token_ids).decode() == f"SELECT {one.prompt_token_ids[1]}"


def test_without_a_coefficient_the_loop_has_the_learner_itself(tmp_path):
    learner = Learner()
    config = load_config(None, [])
    assert with_supervised_term(learner, config, tmp_path, QUESTIONS, Encoder()) is learner
    with_term = load_config(None, ["algorithm.supervised_coefficient=0.1"])
    assert with_supervised_term(learner, with_term, tmp_path, QUESTIONS, Encoder()) is not learner


def test_a_run_that_has_begun_does_not_make_other_traces(tmp_path):
    config = load_config(
        None,
        [
            "prompt.style=tagged",
            "warm_start.source=traces",
            "algorithm.supervised_source=traces",
            "algorithm.supervised_coefficient=0.1",
        ],
    )
    with pytest.raises(UserError, match=r"traces.jsonl is gone, from which the run's supervised term is drawn"):
        keep_traces(config, tmp_path, lambda: pytest.fail("made"), None, is_begun=True)
    (tmp_path / "traces.jsonl").write_text("{}")
    keep_traces(config, tmp_path, lambda: pytest.fail("made"), None, is_begun=True)


def test_a_record_has_the_terms_loss_only_where_there_is_a_term(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(step_record(1))
    without = (tmp_path / METRICS_FILE).read_text()
    assert "supervised" not in without
    assert not [one for one in step_figures(parse_metrics(without), None) if "supervised" in str(asdict(one))]
    with MetricsLog(tmp_path) as log:
        log.write(step_record(2, supervised_loss=0.75))
    series = parse_metrics((tmp_path / METRICS_FILE).read_text())
    assert series.column("supervised_loss") == (None, 0.75)


def test_the_time_plan_counts_the_terms_answers_in_each_optimiser_step():
    lengths = TextLengths(prompt_tokens=100, answer_tokens=20)
    assert run_tokens(load_config(None, []), lengths, None, num_evaluated=0).supervised is None
    given = ["algorithm.supervised_coefficient=0.1", "algorithm.supervised_questions=6", "learner.updates_per_batch=2"]
    found = run_tokens(load_config(None, given), lengths, None, num_evaluated=0).supervised
    assert found is not None and (found.num_tokens, found.num_scored) == (12 * 120, 12 * 20)
