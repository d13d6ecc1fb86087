"""The end of a prompt: each kind of chat template with each style, twelve in all."""

from __future__ import annotations

import pytest

from floe.actors.prompting.prompt_end import with_answer_start
from floe.actors.prompting.prompts import STYLES
from floe.reward_service.sql_text.extraction import extract_sql

TURN = "<|im_start|>assistant\n"
KINDS = {"none": "", "opens": "<think>\n", "opens bare": "<think>", "closed": "<think>\n\n</think>\n\n"}
CLOSED = "<think>\n\n</think>\n\n"
# Kind and style: the text after the turn's opening, and the part of it that belongs to the answer.
EXPECTED = {
    ("none", "compact"): ("", ""),
    ("none", "tagged"): ("<think>", "<think>"),
    ("none", "arctic"): ("<think>\n", "<think>\n"),
    ("opens", "compact"): (CLOSED, ""),
    ("opens", "tagged"): ("<think>\n", "<think>\n"),
    ("opens", "arctic"): ("<think>\n", "<think>\n"),
    ("opens bare", "compact"): (CLOSED, ""),
    ("opens bare", "tagged"): ("<think>", "<think>"),
    ("opens bare", "arctic"): ("<think>\n", "<think>\n"),
    ("closed", "compact"): (CLOSED, ""),
    ("closed", "tagged"): ("<think>", "<think>"),
    ("closed", "arctic"): ("<think>\n", "<think>\n"),
}
ANSWERS = {
    "compact": "SELECT 1",
    "tagged": "pet: name</think><answer>```sql\nSELECT 1\n```</answer>",
    "arctic": "I count.\n</think>\n<answer>\n```sql\nSELECT 1\n```\n</answer>",
}


@pytest.mark.parametrize(("kind", "style"), EXPECTED)
def test_a_thought_is_opened_once_or_not_at_all(kind, style):
    found = with_answer_start(TURN + KINDS[kind], STYLES[style].prefill)
    assert (found.text, found.answer_start) == (TURN + EXPECTED[kind, style][0], EXPECTED[kind, style][1])
    assert found.text.count("<think>") == (0 if (kind, style) == ("none", "compact") else 1)
    assert extract_sql(found.answer_start + ANSWERS[style]) == "SELECT 1"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", ["tagged", "arctic"])
def test_an_unfinished_thought_is_no_answer(kind, style):
    found = with_answer_start(TURN + KINDS[kind], STYLES[style].prefill)
    assert extract_sql(found.answer_start + "with SELECT count(*) FROM pet, but which?") is None
