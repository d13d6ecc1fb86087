"""Keys that may change on a resume: every key of the schema is classified, those that matter are refused by name."""

from __future__ import annotations

import json

import pytest

from floe.cluster.checkpoints.resume_rules import (
    RULE_OF,
    changed_keys,
    changed_libraries,
    check_resume,
    with_saved_decisions,
)
from floe.cluster.preparation.clock import with_saved_clock
from floe.configs.errors import UserError
from floe.configs.files.complaints import dotted_keys, fields_of
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig
from floe.configs.sections.resume_rule import Rule


def saved(*overrides: str) -> dict:
    """Return the values as they come out of a checkpoint."""
    return json.loads(json.dumps(load_config(None, overrides).model_dump(mode="json")))


def given(*overrides: str) -> RunConfig:
    return load_config(None, overrides)


def test_every_field_is_marked_with_one_rule():
    rules = {
        f"{section}.{field}": [one for one in info.metadata if isinstance(one, Rule)]
        for section in RunConfig.model_fields
        for field, info in fields_of(section).items()
    }
    assert not [key for key, found in rules.items() if len(found) != 1], "mark new fields, as in Fixed[int]"
    assert list(rules) == list(RULE_OF) == list(dotted_keys())


def test_an_unchanged_configuration_says_nothing():
    config = "data.source=files", "data.questions=q.json", "data.databases=db", "learner.adam_betas=[0.8, 0.95]"
    assert check_resume(saved(*config), given(*config)) == []


def test_refused_keys_are_all_named_with_both_values():
    with pytest.raises(UserError) as refusal:
        check_resume(
            saved(), given("run.seed=2", "lora.rank=8", "reward.num_workers=5", "learner.num_ranks=2", "run.name=x")
        )
    said = str(refusal.value)
    assert "run.seed (1 -> 2)" in said and "lora.rank (16 -> 8)" in said and "learner.num_ranks (1 -> 2)" in said
    assert "num_workers" not in said and "run.name" not in said


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("run.num_steps=40", Rule.STEPS),
        ("run.home=/elsewhere", Rule.FREE),
        ("reward.num_workers=5", Rule.FREE),
        ("cluster.step_timeout_s=60", Rule.FREE),
        ("evaluation.max_questions=5", Rule.FREE),
        ("rollout.num_actors=2", Rule.MAY_CHANGE_BITS),
        ("rollout.num_threads=1", Rule.MAY_CHANGE_BITS),
        ("learner.num_threads=1", Rule.MAY_CHANGE_BITS),
    ],
)
def test_harmless_changes_are_told_with_what_they_do(override, rule):
    key, _, value = override.partition("=")
    (line,) = check_resume(saved(), given(override))
    assert line.startswith(key) and value in line and line.endswith(rule.value)


@pytest.mark.parametrize(
    "override",
    [
        "run.num_steps=10",
        "reward.time_limit_s=9",
        "rollout.temperature=1",
        "model.dtype=float32",
        "prompt.style=arctic",
    ],
)
def test_what_makes_another_run_is_refused(override):
    with pytest.raises(UserError, match=override.partition("=")[0]):
        check_resume(saved(), given(override))


def test_keys_that_came_or_went_with_a_version_are_compared_too():
    old = saved()
    del old["rollout"]["max_staleness"]
    assert check_resume(old, given()) == []  # it was 0 before it could be chosen
    with pytest.raises(UserError, match=r"rollout\.max_staleness \(0 -> 1\)"):
        check_resume(old, given("rollout.max_staleness=1"))
    old["algorithm"]["entropy_bonus"] = 0.1
    with pytest.raises(UserError, match=r"algorithm\.entropy_bonus"):
        check_resume(old, given())


def test_changes_come_in_the_schemas_order():
    changes = changed_keys(saved(), given("cluster.address=local", "lora.rank=8", "run.seed=7"))
    assert [change.key for change in changes] == ["run.seed", "lora.rank", "cluster.address"]
    assert [change.rule for change in changes] == [RULE_OF[change.key] for change in changes]


def test_other_library_versions_are_warned_of():
    same = {"torch": "2.13.0", "ray": "2.60.0"}
    assert changed_libraries(same, same) == []
    lines = changed_libraries(same | {"vllm": "0.32.0"}, {"torch": "2.14.0", "ray": "2.60.0"})
    assert len(lines) == 2
    assert "torch was 2.13.0 and is 2.14.0 now" in lines[0]
    assert "vllm was 0.32.0 and is absent now" in lines[1]


def test_a_clock_that_is_left_open_is_the_checkpoints_and_another_is_refused():
    decided = saved("reward.clock=2024-02-29 13:14:15")
    assert check_resume(decided, given()) == []
    assert with_saved_clock(given(), decided).reward.clock == "2024-02-29 13:14:15"
    with pytest.raises(UserError, match=r"reward\.clock"):
        check_resume(decided, given("reward.clock=2001-01-01"))
    before_clocks = saved()
    del before_clocks["reward"]["clock"]
    assert check_resume(before_clocks, given()) == []
    assert check_resume(before_clocks, given("reward.clock=2001-01-01")) == []  # as its first resume has decided it


def test_a_run_from_before_trimming_alike_keeps_its_golds_columns():
    old = saved()
    del old["prompt"]["trim_keeps_gold"]
    assert check_resume(old, given()) == []
    assert with_saved_decisions(given(), old).prompt.trim_keeps_gold
    assert not with_saved_decisions(given(), saved()).prompt.trim_keeps_gold
    with pytest.raises(UserError, match=r"prompt\.trim_keeps_gold"):
        check_resume(saved(), given("prompt.trim_keeps_gold=true"))
