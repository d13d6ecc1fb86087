"""Inputs of a run are known by their content: others are refused, and the same in another place is accepted."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from xxhash import xxh3_128_hexdigest

from floe.actors.questions.pass_rates import PassRate
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.checkpoints import file_digests
from floe.cluster.checkpoints.file_digests import digests_of
from floe.cluster.checkpoints.inputs import inputs_of, model_digest
from floe.cluster.checkpoints.resume_rules import check_inputs
from floe.cluster.checkpoints.state import RunInputs, RunState
from floe.cluster.messages import Question
from floe.cluster.training import warm_start
from floe.configs.errors import UserError
from floe.configs.files.loading import load_config
from floe.configs.schema import RunConfig

QUESTIONS = tuple(
    Question(question_id=f"q{i}", database_id="shop", text=f"How many of {i}?", gold_sql=("SELECT 1",))
    for i in range(4)
)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return load_config(None, [f"run.home={tmp_path / 'home'}"])


@pytest.fixture
def sets(tmp_path: Path) -> QuestionSets:
    folder = tmp_path / "databases" / "shop"
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "shop.sqlite") as database:
        database.execute("CREATE TABLE item (name TEXT)")
    return QuestionSets(databases_dir=tmp_path / "databases", train=QUESTIONS, tune=QUESTIONS[:1], test=QUESTIONS[:1])


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"hidden_size": 2, "transformers_version": "5.0"}))
    write_weights(folder, 0.0)
    return folder


def write_weights(folder: Path, value: float) -> None:
    save_file({"w": np.full(4, value, dtype=np.float32)}, folder / "model.safetensors")


def state(inputs: RunInputs | None) -> RunState:
    return RunState(
        step=3,
        metrics_position=0,
        configuration={},
        library_versions={},
        live_adapter_versions=(3,),
        inputs=inputs,
    )


def refusal(before: RunInputs, after: RunInputs) -> str:
    with pytest.raises(UserError) as fault:
        check_inputs(state(before), after)
    return str(fault.value)


def test_the_same_inputs_are_taken_and_survive_the_checkpoint(config, sets, model_dir):
    found = inputs_of(config, model_dir, sets)
    assert RunState.from_json(state(found).to_json()).inputs == found
    assert check_inputs(state(found), inputs_of(config, model_dir, sets)) == []


@pytest.mark.parametrize(
    "train",
    [
        QUESTIONS[:2],
        QUESTIONS[::-1],
        (*QUESTIONS[:3], replace(QUESTIONS[3], gold_sql=("SELECT 2",))),
        (*QUESTIONS[:3], replace(QUESTIONS[3], text="How many?")),
    ],
    ids=["half of them", "reversed", "another gold", "another text"],
)
def test_other_training_questions_are_refused(config, sets, model_dir, train):
    before = inputs_of(config, model_dir, sets)
    said = refusal(before, inputs_of(config, model_dir, replace(sets, train=train)))
    assert f"other training questions (4 then, {len(train)} now)" in said and "step 3" in said
    assert "databases" not in said and "weights" not in said


def test_other_held_back_questions_are_another_evaluation_and_the_same_run(config, sets, model_dir):
    assert inputs_of(config, model_dir, sets) == inputs_of(config, model_dir, replace(sets, test=QUESTIONS[1:]))


def test_other_contents_of_a_database_are_refused(config, sets, model_dir):
    before = inputs_of(config, model_dir, sets)
    with sqlite3.connect(sets.databases_dir / "shop" / "shop.sqlite") as database:
        database.execute("INSERT INTO item VALUES ('pen')")
    assert "other contents of its databases" in refusal(before, inputs_of(config, model_dir, sets))


def test_what_else_prompts_and_rewards_are_read_from_counts_where_it_is_read(config, sets, model_dir, tmp_path):
    described = load_config(None, [f"run.home={config.run.home}", "prompt.style=arctic", "prompt.descriptions=columns"])
    suited = load_config(
        None, [f"run.home={config.run.home}", f"reward.suite={tmp_path / 'suite'}", "reward.semantics=spider"]
    )
    before = [inputs_of(one, model_dir, sets) for one in (config, described, suited)]
    for path in (sets.databases_dir / "shop" / "database_description" / "item.csv", tmp_path / "suite/shop/1.sqlite"):
        path.parent.mkdir(parents=True)
        path.write_text("other")
    after = [inputs_of(one, model_dir, sets) for one in (config, described, suited)]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_pass_rates_count_where_they_choose_the_questions(config, sets, model_dir, tmp_path):
    rated = replace(sets, pass_rates={"q1": PassRate(num_samples=8, num_correct=3)})
    assert inputs_of(config, model_dir, rated) == inputs_of(config, model_dir, sets)
    given = [f"run.home={config.run.home}", "data.source=prepared", f"data.prepared={tmp_path}", "data.sampler=middle"]
    middle = load_config(None, given)
    assert inputs_of(middle, model_dir, rated) != inputs_of(middle, model_dir, sets)


def test_other_weights_of_the_same_shapes_are_refused(config, sets, model_dir):
    before, size = inputs_of(config, model_dir, sets), (model_dir / "model.safetensors").stat().st_size
    write_weights(model_dir, 1.0)
    assert (model_dir / "model.safetensors").stat().st_size == size
    said = refusal(before, inputs_of(config, model_dir, sets))
    assert "other weights of its base model" in said and "questions" not in said


def test_a_model_is_the_same_elsewhere_and_under_another_version_of_the_library(config, model_dir, tmp_path):
    before = model_digest(model_dir, config.run.home_dir)
    shutil.move(model_dir, tmp_path / "moved")
    (tmp_path / "moved" / "config.json").write_text(json.dumps({"hidden_size": 2, "transformers_version": "6.0"}))
    assert model_digest(tmp_path / "moved", config.run.home_dir) == before
    (tmp_path / "moved" / "config.json").write_text(json.dumps({"hidden_size": 2, "rope_theta": 5}))
    assert model_digest(tmp_path / "moved", config.run.home_dir) != before


def test_all_that_changed_is_named_at_once():
    before = RunInputs(num_questions=2, questions="a", databases="b", model="c")
    said = refusal(before, RunInputs(num_questions=2, questions="x", databases="y", model="z"))
    assert "questions" in said and "databases" in said and "weights" in said


def test_a_checkpoint_without_digests_goes_on_with_a_line():
    (line,) = check_inputs(state(None), RunInputs(num_questions=2, questions="a", databases="b", model="c"))
    assert "not checked" in line


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    path, home, read = tmp_path / "weights", tmp_path / "home", []
    real = file_digests._digest
    monkeypatch.setattr(file_digests, "_digest", lambda one: read.append(one) or real(one))
    monkeypatch.setattr(file_digests, "SETTLED_AFTER_S", -1.0)
    path.write_bytes(b"one")
    (first,) = digests_of([path], home)
    assert digests_of([path], home) == [first] and len(read) == 1
    was = path.stat()
    beside = tmp_path / "beside"
    beside.write_bytes(b"two")
    os.utime(beside, ns=(was.st_atime_ns, was.st_mtime_ns))  # as cp -p leaves it
    beside.replace(path)
    assert digests_of([path], home) != [first] and len(read) == 2


def test_a_file_that_was_just_written_is_not_kept(tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    monkeypatch.setattr(file_digests.time, "time", lambda: path.stat().st_ctime + 0.5)
    digests_of([path], tmp_path)
    assert json.loads((tmp_path / file_digests.CACHE_FILE).read_text()) == {}


def test_a_home_that_cannot_be_written_and_a_damaged_cache_cost_time_alone(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    expected = digests_of([path], tmp_path / "home")
    (tmp_path / "file").write_text("no folder")
    assert digests_of([path], tmp_path / "file") == expected
    (tmp_path / "home" / file_digests.CACHE_FILE).write_text("{")
    assert digests_of([path], tmp_path / "home") == expected


def test_a_warm_start_is_of_its_models_content(config, model_dir, tmp_path):
    before = warm_start._key(config, model_dir, [], [])
    shutil.copytree(model_dir, tmp_path / "copy")
    assert warm_start._key(config, tmp_path / "copy", [], []) == before
    write_weights(model_dir, 1.0)
    assert warm_start._key(config, model_dir, [], []) != before


def test_a_warm_start_made_before_there_were_families_is_found_and_a_plugins_code_counts(config, model_dir, tmp_path):
    fields = config.model.model_dump(mode="json", exclude={"path"})
    assert set(fields) == {"dtype", "max_context_tokens", *warm_start.FAMILY}
    before = warm_start._key(config, model_dir, [], [])
    module = "from floe.plugins import ModelFamily\n\nclass Own(ModelFamily):\n    pass\n"
    (tmp_path / "keyed_family.py").write_text(module)
    given = [f"run.home={config.run.home}", f"run.plugin_folder={tmp_path}", "model.family=keyed_family:Own"]
    own = load_config(None, given)
    keys = [before, warm_start._key(own, model_dir, [], [])]
    (tmp_path / "keyed_family.py").write_text(f"{module}# changed\n")
    keys.append(warm_start._key(own, model_dir, [], []))
    assert len(set(keys)) == 3
    sys.modules.pop("keyed_family")
    sys.path.remove(str(tmp_path))


def test_changed_code_of_a_plugin_is_refused_unless_it_is_asked_for(config, sets, model_dir):
    found = inputs_of(config, model_dir, sets)
    before = replace(found, plugins="of other code")
    assert "other code of its plug-ins" in (said := refusal(before, found))
    assert said.endswith("or give run.takes_changed_plugins=true to go on with the new code.")
    (line,) = check_inputs(state(before), found, takes_changed_plugins=True)
    assert "the steps after 3 are made with the new code" in line
    other_too = replace(before, model="another")
    with pytest.raises(UserError, match="other weights") as refused:
        check_inputs(state(other_too), found, takes_changed_plugins=True)
    assert "plug-ins than" not in str(refused.value)


def test_questions_without_a_source_are_known_by_the_digest_of_earlier_checkpoints(config, sets, model_dir):
    names = ("question_id", "database_id", "text", "gold_sql", "evidence", "difficulty")
    earlier = [[{name: getattr(one, name) for name in names} for one in QUESTIONS], {}]
    found = inputs_of(config, model_dir, sets).questions
    assert found == xxh3_128_hexdigest(json.dumps(earlier, sort_keys=True).encode())
    mixed = replace(sets, train=tuple(replace(one, source="shop") for one in QUESTIONS))
    assert inputs_of(config, model_dir, mixed).questions != found
