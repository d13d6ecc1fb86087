"""Values of the configuration: numbers, paths, lists, anchors, and every odd value of every field."""

import os
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from typer.models import ArgumentInfo, CommandInfo, OptionInfo

from floe.actors.questions.question_sets import load_question_sets
from floe.cluster.cli import app
from floe.cluster.commands.paths import given_config, given_path
from floe.cluster.run_folder.layout import new_run_dir
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.complaints import dotted_keys
from floe.configs.files.loading import dump_config, load_config
from floe.configs.files.paths import RELATIVE_RULE
from floe.configs.files.yaml_text import PlainDumper, read_yaml
from floe.configs.schema import RunConfig
from tests.config_walk import ODD_VALUES, fault_of, trials_of


def written(folder: Path, text: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, overrides)
    return str(caught.value)


@pytest.mark.parametrize("section", RunConfig.model_fields)
def test_every_odd_value_of_every_field_is_taken_as_a_sane_one_or_refused_in_a_sentence(section, tmp_path):
    trials = list(trials_of(section, tmp_path))
    assert len(trials) == 2 * len(ODD_VALUES) * sum(key.startswith(f"{section}.") for key in dotted_keys())
    faults = [f"{one.key}, {one.what} in {one.where}: {fault}" for one in trials if (fault := fault_of(one))]
    assert not faults, "\n".join(faults)


def test_every_number_has_a_bound_at_both_ends():
    """Check bounds, so that no number overflows in a library, on whatever process."""
    unbounded = []
    for key in dotted_keys():
        section, _, field = key.partition(".")
        info = RunConfig.model_fields[section].annotation.model_fields[field]
        if info.annotation in (int, float, int | None, float | None):
            names = {name for one in info.metadata for name in ("ge", "gt", "le", "lt") if hasattr(one, name)}
            if not (names & {"ge", "gt"} and names & {"le", "lt"}):
                unbounded.append(key)
    assert unbounded == ["lora.rank"]  # a list of a few values


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("lora.target_modules=[]", "is empty"),
        ("lora.target_modules=[q_proj, v_proj, q_proj]", "names 'q_proj' twice"),
        ("lora.target_modules=q_proj,v_proj", "must be a list"),
        ("lora.target_modules=all-linear", "must be a list"),
        ("learner.adam_betas=[0.9, 1.0]", "(entry 1) is 1.0"),
        ("learner.adam_betas=[1, 2]", "(entry 0) is 1"),
        ("learner.adam_betas=[-0.1, 0.999]", "at least 0"),
        ("learner.adam_betas=[0.9]", "long enough"),
        ("evaluation.temperature=3", "at most 2"),  # vLLM refuses it, and silently raises what is below 0.01
        ("rollout.temperature=0.001", "at least 0.01"),
        ("rollout.max_num_seqs=4096", "no more at a time than tokens, 2048"),
        ("rollout.max_new_tokens=1024", "nothing for the prompt"),
        ("rollout.num_gpus=1.5", "no tensor parallelism"),
        ("learner.num_gpus=2.5", "no tensor parallelism"),
        ("reward.num_cpus=0.00001", "can't tell from 0"),
        ("cluster.dashboard_port=70000", "at most 65535"),
        ("cluster.dashboard_port=-1", "at least 1"),
        ("cluster.address=127.0.0.1:99999", "from 1 to 65535"),
        ("reward.judge_url=http://[", "not the address of an endpoint"),
        ("reward.judge_url=http://localhost:99999/v1", "not the address of an endpoint"),
        ("reward.judge_key_variable=sk-12345", "not the key itself"),
        ("run.mlflow_uri=http://[", "not an address"),
        ("run.wandb_project=a/b", "not take as a project's name"),
        ("cluster.colocation=both", "'resident', 'engine_sleeps' or 'learner_offloads' or 'auto'"),
        ("data.questions=https://example.org/q.json", "no address"),
        ("data.verification=None", "null where it is to be left unset"),
    ],
)
def test_what_only_an_actor_would_find_is_refused_where_it_is_read(override, named):
    said = refusal(override)
    assert override.partition("=")[0] in said and named in said, said


@pytest.mark.parametrize(
    "override",
    ["learner.adam_betas=[0, 0.5]", "rollout.num_gpus=1", "rollout.num_gpus=0.5", "cluster.address='[::1]:6379'"],
)
def test_what_actors_take_is_not_refused(override):
    assert load_config(None, [override])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("010", 10),
        ("012", 12),
        ("0100", 100),
        ("08", 8),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("1e-5", 1e-5),
        ("1.5E3", 1500.0),
        (".inf", float("inf")),
        ("yes", "yes"),
        ("on", "on"),
        ("No", "No"),
        ("True", True),
        ("2026-11-30", "2026-11-30"),
        ("None", "None"),
        ("~", None),
        ("", None),
    ],
)
def test_values_are_what_they_look_like(text, meant):
    found = read_yaml(f"key: {text}")["key"]
    assert (type(found), found) == (type(meant), meant)


@pytest.mark.parametrize("text", ["010", "1e5", "0o17", "yes", "1:30", "2026-11-30", "null", "~", "<<", "", ".inf"])
def test_a_text_that_looks_like_something_else_is_written_as_text_to_every_reader(text):
    plain = yaml.dump({"key": text}, Dumper=PlainDumper)
    assert read_yaml(plain) == yaml.safe_load(plain) == {"key": text}


@pytest.mark.parametrize("is_file", [True, False])
def test_numbers_of_files_and_overrides_are_read_alike(tmp_path, is_file):
    values = {"run.seed": "010", "rollout.group_size": "012", "run.num_steps": "1_000", "learner.learning_rate": "1e-5"}
    if is_file:
        lines = [f"{key.partition('.')[0]}: {{{key.partition('.')[2]}: {text}}}\n" for key, text in values.items()]
        lines = ["run: {seed: 010, num_steps: 1_000}\n", *(line for line in lines if not line.startswith("run"))]
        config = load_config(written(tmp_path, "".join(lines)))
    else:
        config = load_config(None, [f"{key}={text}" for key, text in values.items()])
    found = (config.run.seed, config.rollout.group_size, config.run.num_steps, config.learner.learning_rate)
    assert found == (10, 12, 1000, 1e-5)
    assert "'1:30'" in refusal("rollout.questions_per_step=1:30")


def test_switches_take_the_words_for_them():
    config = load_config(None, ["learner.offload_optimizer=yes", "evaluation.enabled=off", "run.name=no"])
    assert (config.learner.offload_optimizer, config.evaluation.enabled, config.run.name) == (True, False, "no")


ANCHORS = """
x-small: &small {num_threads: 2, num_cpus: 0.25}
x-more:
  larger: &larger {<<: *small, num_cpus: 0.75}
rollout:
  <<: *larger
  group_size: 8
learner: {<<: *small}
"""


def test_keys_that_begin_with_x_are_homes_of_anchors(tmp_path):
    config = load_config(written(tmp_path, ANCHORS), ["rollout.num_threads=3"])
    assert (config.rollout.num_threads, config.rollout.num_cpus, config.rollout.group_size) == (3, 0.75, 8)
    assert (config.learner.num_threads, config.learner.num_cpus) == (2, 0.25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x-a: &a [*a]\n", "line 1 has an alias of what it stands in"),
        ("run: *nowhere\n", "undefined alias"),
        ("run: {<<: 3}\n", "expected a mapping"),
        (
            "x-long: &a '" + "x" * 100_000 + "'\nx-b: [" + ", ".join(["*a"] * 11) + "]\n",
            "line 2 has an alias that would",
        ),
    ],
)
def test_aliases_that_lead_nowhere_or_too_far_are_refused(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        load_config(written(tmp_path, text))


FILES = "data: {source: files, questions: questions.json, databases: ../db, verification: /v.json}\n"


def test_a_relative_path_starts_where_it_is_written(tmp_path, monkeypatch):
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside / "base", here / "other"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    text = FILES + "model: {path: base}\nrun: {mlflow_uri: records}\n"
    config = load_config(written(beside, text), ["reward.graph_network=network"])
    assert config.data.questions == beside / "questions.json"
    assert config.data.databases is not None and config.data.databases.resolve() == tmp_path / "db"
    assert config.data.verification == Path("/v.json")
    assert (config.model.path, config.run.mlflow_uri) == (str(beside / "base"), str(beside / "records"))
    assert config.reward.graph_network == here / "network"
    assert load_config(None, ["model.path=other"]).model.path == str(here / "other")
    assert load_config(None, ["model.path=./new"]).model.path == str(here / "new")
    os.chdir("/")
    dump_config(config, tmp_path / "run" / "config.yaml")
    assert load_config(tmp_path / "run" / "config.yaml") == config  # from wherever a run continues


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-0.5B", "embedded:tiny-qwen2"])
def test_a_name_that_is_no_folder_stays_a_name(name):
    assert load_config(None, [f"model.path={name}"]).model.path == name


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "sqlite:///records.db", "databricks"])
def test_a_server_of_records_stays_one(uri):
    assert load_config(None, [f"run.mlflow_uri={uri}"]).run.mlflow_uri == uri


def test_a_path_that_is_not_there_is_said_with_the_rule(tmp_path):
    (tmp_path / "db").mkdir()
    config = load_config(written(tmp_path, FILES.replace("../db", "db")))
    with pytest.raises(UserError) as caught:
        load_question_sets(config.data, tmp_path / "demo")
    assert str(tmp_path / "questions.json") in str(caught.value) and RELATIVE_RULE in str(caught.value)


@pytest.mark.parametrize(
    "key",
    ["run.home", "run.mlflow_uri", "model.path", "data.questions", "data.prepared", "reward.graph_network"],
)
@pytest.mark.parametrize("is_file", [True, False])
def test_a_tilde_is_the_home_folder_in_every_path(key, is_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    section, _, field = key.partition(".")
    path = written(tmp_path, f"{section}: {{{field}: ~/x y}}\n") if is_file else None
    config = load_config(path, [] if is_file else [f"{key}=~/x y"])
    assert str(getattr(getattr(config, section), field)) == str(tmp_path / "x y")
    assert load_config(None, ["run.home=~"]).run.home == tmp_path


@pytest.mark.parametrize("text", ["/data/a #1.json", "/data/a: b.json", "/data/[x].json", "/data/*.json"])
def test_a_path_of_an_override_is_taken_as_it_stands(text):
    assert load_config(None, [f"data.questions={text}"]).data.questions == Path(text)


@pytest.mark.parametrize("name", ["sweep/lr-3e-5", "../outside", "/absolute", "n" * 300])
def test_a_name_that_would_lead_out_of_the_home_is_refused(name, tmp_path):
    assert "run.name" in refusal(f"run.name={name}")
    made = new_run_dir(load_config(None, [f"run.home={tmp_path}", f"run.name={'n' * 150}"]), None)
    assert made.parent == tmp_path / "runs"


def _callbacks(group) -> list[CommandInfo]:
    within = [one for sub in group.registered_groups for one in _callbacks(sub.typer_instance)]
    return [*group.registered_commands, *within]


def test_every_path_of_every_command_is_read_by_the_one_rule():
    num_paths = 0
    for command in _callbacks(app):
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            described = [one for one in get_args(hint) if isinstance(one, OptionInfo | ArgumentInfo)]
            if described and "Path" in str(get_args(hint)[0]):
                num_paths += 1
                assert described[0].parser in (given_path, given_config), f"{command.callback.__name__} {name}"
    assert num_paths > 40


def test_a_path_of_the_command_line_starts_at_the_working_folder_or_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path)
    assert given_path("~/out") == tmp_path / "me" / "out"
    assert given_path("out") == given_path(Path("out")) == tmp_path / "out"
    for odd in ("", "~nobody-of-that-name/x", "http://h/x", "x" * 300):
        with pytest.raises(UserError, match="a path must be"):
            given_path(odd)
