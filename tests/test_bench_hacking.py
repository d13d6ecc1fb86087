"""Earnings of constant policies: the bounds that keep a design from paying for answers to no question."""

from __future__ import annotations

import pytest

from floe.actors.questions.question_sets import load_question_sets
from floe.cluster.bench.reward.constant_policies import kitchen_sink, named_table, replies
from floe.cluster.bench.reward.hacking_bench import DESIGNS, mean_rewards, sections_of
from floe.cluster.messages import Question
from floe.configs.schema import DataSection
from floe.reward_service.reading.schema_reader import SchemaReader

NUM_QUESTIONS = 12
SCHEMA = {"singer": {"id": "", "name": ""}, "concert": {"year": ""}}
# The largest share of the gold's earnings above the design's floor, which is the reward without SQL.
MAX_SHARE = {
    "SELECT 1": 0.45,
    "count of a table": 0.5,
    "kitchen sink": 0.5,
}
AS_PUBLISHED = {"graph, stepwise as published", "reasoning_sql, sum", "sql_r1, paper"}  # known to pay, see the docs


@pytest.fixture(scope="module")
def means(tmp_path_factory):
    sets = load_question_sets(DataSection(), tmp_path_factory.mktemp("demo"))
    schemas = SchemaReader(sets.databases_dir)
    questions = sets.test[:: len(sets.test) // NUM_QUESTIONS][:NUM_QUESTIONS]
    asked = [(one, replies(one, schemas.schema(one.database_id), one.gold_sql[0])) for one in questions]
    return mean_rewards(asked, sets.databases_dir, sections_of(DESIGNS))


@pytest.mark.heavy
@pytest.mark.parametrize("policy", MAX_SHARE)
@pytest.mark.parametrize("design", [name for name in DESIGNS if name not in AS_PUBLISHED])
def test_a_constant_policy_earns_little(means, design, policy):
    found = means[design]
    share = (found[policy] - found["nothing"]) / (found["gold"] - found["nothing"])
    assert share <= MAX_SHARE[policy], found


@pytest.mark.heavy
def test_what_a_design_pays_for_nothing_is_its_least(means):
    assert all(found["nothing"] == min(found.values()) for found in means.values())


def test_the_policies_know_no_more_than_the_question_and_the_schema():
    assert named_table("How many concerts are there?", SCHEMA) == "concert"
    assert named_table("How old is Ann?", SCHEMA) == "singer"
    sink = kitchen_sink("Which concerts?", SCHEMA)
    assert sink.startswith('SELECT DISTINCT "concert"."year", "singer"."id"') and sink.endswith("LIMIT 1")
    question = Question(question_id="q", database_id="d", text="?", gold_sql=("SELECT 2",))
    assert next(iter(replies(question, SCHEMA, "SELECT 3"))) == "gold"
