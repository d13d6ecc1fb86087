"""The before/after table: which questions count, what is paired with what, and that it fits a log."""

import io
import json

import pytest
from rich.console import Console

from floe.cluster.evaluation.before_after_table import PolicyAnswers, evaluation_report
from floe.cluster.evaluation.plain_words import all_zero
from floe.configs.errors import UserError


def answers(name: str, ids: str, greedy: str | None, correct: tuple[int, ...], **changes) -> PolicyAnswers:
    """Return policies over one-letter question ids; `greedy` holds a 1 per correct answer."""
    flags = None if greedy is None else tuple(flag == "1" for flag in greedy)
    fields = {
        "name": name,
        "temperature": 0.8,
        "question_ids": tuple(ids),
        "greedy_correct": flags,
        "greedy_executes": flags,
        "num_samples": 4,
        "sample_num_correct": correct,
        "sample_num_executes": tuple(4 for _ in correct),
    }
    return PolicyAnswers(**(fields | changes))


def four_policies() -> list[PolicyAnswers]:
    return [
        answers("base model", "abcd", "0000", (0, 0, 0, 0)),
        answers("warm start", "abcd", "1000", (2, 0, 0, 4), entropy=0.5),
        answers("warm start, sharper", "abcd", None, (3, 0, 0, 4), temperature=0.55, entropy=0.3),
        answers("GRPO", "dcba", "0111", (4, 2, 1, 3), entropy=0.3),
    ]


def report_of(policies: list[PolicyAnswers], **changes):
    return evaluation_report(policies, **({"num_resamples": 200, "seed": 1} | changes))


def rendered(report, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    report.render(console)
    return console.file.getvalue()


def test_shares_by_hand():
    base, warm, sharper, grpo = report_of(four_policies()).rows
    assert base.pass_at_n.mean == 0
    assert (warm.greedy.mean, warm.sampled.mean, warm.pass_at_n.mean) == (0.25, 6 / 16, 0.5)
    assert (sharper.greedy, sharper.sampled.mean, sharper.entropy) == (None, 7 / 16, 0.3)
    assert (grpo.greedy.mean, grpo.sampled.mean, grpo.pass_at_n.mean) == (0.75, 10 / 16, 1.0)
    assert grpo.sampled_executes.mean == 1
    assert grpo.sampled.num_questions == 4


def test_differences_pair_the_same_questions():
    # GRPO lists its questions backwards; pairing by position would give another interval.
    control, grpo = report_of(four_policies()).differences
    assert (control.name, control.to, control.greedy) == ("warm start, sharper", "warm start", None)
    assert control.sampled.mean == pytest.approx(1 / 16)
    assert grpo.sampled.mean == pytest.approx(4 / 16)
    same = [answers("warm start", "abcd", "1100", (1, 2, 3, 4)), answers("GRPO", "dcba", "0011", (4, 3, 2, 1))]
    difference = report_of(same).differences[0]
    assert (difference.sampled.low, difference.sampled.high, difference.greedy.high) == (0, 0, 0)


def test_only_questions_common_to_all_rows_count():
    policies = [answers("warm start", "abc", "111", (4, 4, 4)), answers("GRPO", "bcd", "000", (0, 0, 0))]
    report = report_of(policies)
    assert (report.num_questions, report.num_left_out) == (2, 2)
    assert report_of(policies, num_asked=10).num_left_out == 8
    assert "2 questions left out" in rendered(report)


def test_what_was_left_out_is_named_with_its_reason():
    why = "d: infrastructure: the executor gave no answer"
    policies = [
        answers("warm start", "abcd", "1111", (4, 4, 4, 4)),
        answers("GRPO", "abc", "000", (0, 0, 0), without_verdict=(why,)),
    ]
    report = report_of(policies, num_asked=4)
    assert report.left_out == (f"GRPO: {why}",)
    assert why in rendered(report) and why in report.to_json()


def test_no_common_question_is_a_users_error():
    with pytest.raises(UserError, match="No question"):
        report_of([answers("warm start", "a", "1", (1,)), answers("GRPO", "b", "1", (1,))])


def test_without_a_warm_start_there_are_no_differences():
    report = report_of([answers("base model", "ab", "01", (1, 2)), answers("adapter", "ab", "01", (1, 2))])
    assert report.differences == ()
    assert "Paired" not in rendered(report)


def test_the_table_fits_100_columns_and_cuts_no_number():
    certain = [answers("warm start", "ab", "11", (4, 4)), answers("a policy of a very long name", "ab", "11", (4, 4))]
    for policies in (four_policies(), certain):
        text = rendered(report_of(policies))
        assert max(len(line) for line in text.splitlines()) <= 100
        assert "…" not in text
    assert text.count("100.0 [100.0, 100.0]") == 6
    assert "mean of 4" in text
    assert "pass@4" in text
    assert "2 questions" in text


def test_a_missing_greedy_row_shows_a_dash():
    line = next(line for line in rendered(report_of(four_policies())).splitlines() if "sharper" in line)
    assert " - " in line


def test_json_holds_every_figure():
    report = json.loads(report_of(four_policies()).to_json())
    assert report["num_questions"] == 4
    assert report["rows"][1]["sampled"]["mean"] == 6 / 16
    assert report["rows"][2]["greedy"] is None
    assert set(report["differences"][1]["sampled"]) == {"mean", "low", "high", "num_questions"}


def test_malformed_answers_are_refused():
    with pytest.raises(ValueError, match="one entry per question"):
        answers("x", "ab", "1", (1, 1))
    with pytest.raises(ValueError, match="repeat"):
        answers("x", "aa", "11", (1, 1))
    with pytest.raises(ValueError, match="same number of samples"):
        report_of([answers("x", "a", "1", (1,)), answers("y", "a", "1", (1,), num_samples=2)])


def many(name: str, share_right: float, number: int = 60) -> PolicyAnswers:
    """Return a policy that answers the first `share_right` of `number` questions, with each sample."""
    right = [i < share_right * number for i in range(number)]
    fields = {"question_ids": tuple(map(str, range(number))), "greedy_correct": tuple(right)}
    return answers(name, "", None, tuple(4 * one for one in right), greedy_executes=tuple(right), **fields)


TOO_FEW = "4 questions: too few to tell a gain from chance"
NO_CHANGE = "No change can be told: 0 lies within the interval of every difference."


@pytest.mark.parametrize(
    ("policies", "said", "not_said"),
    [
        ([many("warm start", 0.3), many("GRPO", 0.6)], (), (TOO_FEW[1:], NO_CHANGE)),
        ([many("warm start", 0.3), many("GRPO", 0.32)], (NO_CHANGE,), (TOO_FEW[1:],)),
        ([many("warm start", 0.3, 29), many("GRPO", 0.9, 29)], ("29 questions: too few",), (NO_CHANGE,)),
        ([many("warm start", 0.3, 30), many("GRPO", 0.9, 30)], (), ("too few", NO_CHANGE)),
        ([many("warm start", 0.3, 4), many("GRPO", 0.3, 4)], (TOO_FEW, NO_CHANGE), ()),
        ([many("base model", 0.3)], (), (NO_CHANGE,)),
    ],
    ids=["a gain", "no gain", "few", "enough", "few, no gain", "one policy"],
)
def test_what_cant_be_told_is_said_below_the_table(policies, said, not_said):
    shown = rendered(report_of(policies))
    assert all(one in shown for one in said) and not any(one in shown for one in not_said)
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_a_row_of_zeros_before_the_last_difference_does_not_count():
    policies = [many("warm start", 0.3), many("warm start, T 0.8", 0.3), many("GRPO", 0.6)]
    assert NO_CHANGE not in rendered(report_of(policies))


@pytest.mark.parametrize(
    ("means", "shares", "is_said"),
    [([0.0, 0.0], [1.0, 1.0], True), ([0.0, 0.1], [1.0, 1.0], False), ([0.0, 0.0], [1.0, 0.5], False),
     ([None, 0.0], [None, 1.0], False), ([], [], False)],
)  # fmt: skip
def test_a_run_without_any_reward_is_called_one(means, shares, is_said):
    assert bool(all_zero(means, shares)) is is_said
