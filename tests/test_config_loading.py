"""YAML plus overrides: which values are accepted, which are refused, and that every refusal is one useful sentence."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from floe.configs.errors import ConfigError, UserError
from floe.configs.files.complaints import dotted_keys
from floe.configs.files.loading import dump_config, load_config
from floe.configs.schema import RunConfig


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(tmp_path: Path, text: str = "", overrides: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, text), overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_nothing_set_gives_the_defaults(tmp_path):
    assert load_config(None) == RunConfig()
    assert load_config(written(tmp_path, "")) == RunConfig()
    assert load_config(written(tmp_path, "run:\n  # name: x\n")) == RunConfig()


def test_an_override_beats_the_file_and_the_last_override_wins(tmp_path):
    path = written(tmp_path, "rollout:\n  group_size: 4\n  temperature: 0.5\n")
    config = load_config(path, ["rollout.group_size=8", "rollout.group_size=9", "learner.learning_rate=3e-5"])
    assert (config.rollout.group_size, config.rollout.temperature, config.learner.learning_rate) == (9, 0.5, 3e-5)


def test_values_of_overrides_are_yaml():
    config = load_config(None, ["lora.target_modules=[q_proj, v_proj]", "learner.offload_optimizer=yes"])
    assert config.lora.target_modules == ("q_proj", "v_proj")
    assert config.learner.offload_optimizer is True
    assert load_config(None, ["cluster.dashboard_port=null"]).cluster.dashboard_port is None


@pytest.mark.parametrize("text", ["7", "2024-01-01", "yes", "a: b: c", "[x"])
def test_a_text_field_takes_the_override_as_it_stands(text):
    assert load_config(None, [f"run.name={text}"]).run.name == text


def test_a_value_may_hold_an_equals_sign():
    assert load_config(None, ["run.name=a=b"]).run.name == "a=b"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rollout:\n  group_sise: 8\n", ["'rollout.group_sise'", "run.yaml", "'rollout.group_size'"]),
        ("rollot:\n  group_size: 8\n", ["'rollot'", "run.yaml", "'rollout'"]),
        ("learner:\n  max_staleness: 0\n", ["'learner.max_staleness'", "'rollout.max_staleness'"]),
        ("group_size: 8\n", ["'group_size'", "'rollout.group_size'"]),
        ("rollout.group_size: 8\n", ["'rollout.group_size'", "indented under 'rollout:'"]),
        ("1: 2\n", ["'1'"]),
    ],
)
def test_an_unknown_key_names_the_nearest_one(tmp_path, text, named):
    message = refusal(tmp_path, text)
    assert all(part in message for part in named), message


@pytest.mark.parametrize("key", ["rollout.top_p", "rollout.top_k", "evaluation.min_p"])
def test_sampling_that_cuts_the_distribution_off_is_refused_with_the_reason(tmp_path, key):
    message = refusal(tmp_path, overrides=(f"{key}=0.9",))
    assert f"'{key}'" in message and "ratio" in message and "rollout.temperature" in message


def test_an_unknown_key_of_an_override_names_the_override(tmp_path):
    message = refusal(tmp_path, overrides=("rolout.groupsize=8",))
    assert "rolout.groupsize=8" in message
    assert "'rollout.group_size'" in message


@given(key=st.text(min_size=1).filter(lambda key: "=" not in key and key.strip() and "\n" not in key))
def test_any_unknown_key_names_some_known_one(key):
    if key.strip() in (*dotted_keys(), *RunConfig.model_fields):
        return
    with pytest.raises(ConfigError, match=r"nearest known key is '[a-z_.0-9]+'"):
        load_config(None, [f"{key}=1"])


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("rollout.group_size=many", ["rollout.group_size is 'many'", "a whole number", "default, 16"]),
        ("rollout.group_size=2.5", ["2.5", "a whole number"]),
        ("rollout.group_size=0", ["is 0", "at least 1"]),
        ("rollout.group_size=yes", ["is 'yes'", "a whole number"]),
        ("rollout.group_size=true", ["is True", "not true or false"]),
        ("rollout.group_size=", ["is empty", "a whole number"]),
        ("learner.learning_rate=.inf", ["is inf", "a finite number"]),
        ("learner.learning_rate=Infinity", ["is 'Infinity'", "a finite number"]),
        ("learner.learning_rate=.nan", ["is nan", "a finite number"]),
        ("learner.learning_rate=0", ["is 0", "greater than 0"]),
        ("learner.adam_betas=[0.9]", ["learner.adam_betas", "long enough"]),
        ("learner.adam_betas=[0.9, 0.9, 0.9]", ["learner.adam_betas", "at most 2 entries"]),
        ("lora.target_modules=[1]", ["lora.target_modules (entry 0) is 1", "text"]),
        ("learner.gradient_checkpointing=maybe", ["'maybe'", "true or false"]),
        ("reward.semantics=foo", ["'foo'", "'bird', 'spider' or 'strict'"]),
        ("lora.rank=7", ["lora.rank is 7", "lora.rank=7", "use one of"]),
        ("data.source=files", ["data.source is 'files'", "data.questions"]),
        ("cluster.dashboard_port=[1]", ["cluster.dashboard_port is [1]", "correct it or leave it out."]),
        ("rollout.group_size", ["is not a valid override", "section.field=value"]),
        ("=3", ["is not a valid override"]),
        ("rollout=3", ["whole section", "rollout.num_actors=value"]),
        ("lora.target_modules=[a", ["not valid YAML"]),
    ],
)
def test_a_wrong_override_names_key_value_rule_and_remedy(tmp_path, override, named):
    message = refusal(tmp_path, overrides=(override,))
    assert all(part in message for part in named), message


def test_a_wrong_value_in_the_file_names_the_file_and_the_others(tmp_path):
    message = refusal(tmp_path, "rollout:\n  group_size: none\n  num_actors: 0\nrun:\n  seed: -1\n")
    assert "run.seed is -1 in" in message
    assert "run.yaml" in message
    assert "2 more wrong values" in message


def test_a_section_that_is_no_mapping(tmp_path):
    assert "rollout is 3" in refusal(tmp_path, "rollout: 3\n")


def test_a_long_value_is_cut(tmp_path):
    assert len(refusal(tmp_path, f"rollout:\n  group_size: {'x' * 5000}\n")) < 400


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("run: [1\n", "not valid YAML (line 2"),
        ("run:\n\tname: x\n", "not valid YAML (line 2"),
        ("- 1\n", "holds a list"),
        ("just text\n", "holds a str"),
        ("run:\n  name: a\n  name: b\n", "line 3 repeats the key 'name'"),
        ("run:\n  name: a\nrollout:\n  group_size: 3\nrun:\n  seed: 3\n", "line 5 repeats the key 'run'"),
        ("run:\n  name: a\n---\nrun:\n  name: b\n", "not valid YAML"),
        ("run: !!python/object:os.system {}\n", "not valid YAML"),
        ("? [a, b]\n: 1\n", "not valid YAML"),
    ],
)
def test_unusable_yaml(tmp_path, text, part):
    assert part in refusal(tmp_path, text)


def test_a_file_that_is_not_there_or_no_file_or_no_text(tmp_path):
    for path, part in ((tmp_path / "none.yaml", "no configuration file"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigError, match=part):
            load_config(path)
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "run.yaml")


@pytest.mark.parametrize("buffer_tokens", [0, 65])
def test_a_punishment_needs_a_buffer_within_the_limit(tmp_path, buffer_tokens):
    text = f"algorithm: {{overlong: punish, overlong_buffer_tokens: {buffer_tokens}}}\n"
    said = refusal(tmp_path, text)
    assert f"algorithm.overlong_buffer_tokens is {buffer_tokens}" in said and "rollout.max_new_tokens, 64" in said
    assert load_config(None, ["algorithm.overlong=punish", "algorithm.overlong_buffer_tokens=64"])


def test_bfloat16_without_a_float32_accumulation_is_refused(tmp_path):
    said = refusal(tmp_path, "learner: {zero_stage: 0}\nmodel: {dtype: bfloat16}\n")
    assert "learner.zero_stage is 0" in said and "model.dtype=float32" in said
    assert load_config(None, ["learner.zero_stage=0", "model.dtype=float32"])
    assert load_config(None, ["learner.zero_stage=0"])


@pytest.mark.parametrize(
    ("overrides", "dtype", "stage"),
    [
        ([], "float32", 0),
        ([], "bfloat16", 1),
        (["learner.num_ranks=2"], "bfloat16", 2),
        (["learner.num_gpus=1"], "bfloat16", 2),
        (["learner.offload_optimizer=true"], "float32", 2),
        (["learner.zero_stage=2"], "float32", 2),
        (["learner.zero_stage=0"], "float32", 0),
    ],
)
def test_one_rank_on_the_cpu_takes_the_lowest_stage_of_its_precision(overrides, dtype, stage):
    assert load_config(None, overrides).learner.decided_zero_stage(dtype) == stage


def test_a_mask_that_drops_every_sequence_is_refused(tmp_path):
    said = refusal(tmp_path, "algorithm: {importance: mask_sequence, importance_cap: 0.5}\n")
    assert "algorithm.importance_cap is 0.5" in said and "at least 1" in said


def test_a_refill_that_finds_nothing_to_replace_is_refused(tmp_path):
    said = refusal(tmp_path, "algorithm: {max_refill_rounds: 2, kl_coefficient: 0.001}\n")
    assert "algorithm.max_refill_rounds is 2" in said and "algorithm.kl_coefficient 0.001" in said
    assert "algorithm.max_refill_rounds" in refusal(tmp_path, "algorithm: {max_refill_rounds: -1}\n")
    for other in ("algorithm.kl_coefficient=0", "algorithm.drop_groups_without_match=true"):
        assert load_config(None, ["algorithm.max_refill_rounds=2", other]).algorithm.max_refill_rounds == 2
    assert load_config(None, []).algorithm.max_refill_rounds == 0


def test_what_is_dumped_loads_again(tmp_path):
    overrides = ["run.name='ü: \"x\"'", "learner.learning_rate=1e-7", "data.questions=q.json", "lora.rank=32"]
    config = load_config(None, overrides)
    dump_config(config, tmp_path / "deep" / "config.yaml")
    assert load_config(tmp_path / "deep" / "config.yaml") == config


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="Can't write"):
        dump_config(RunConfig(), tmp_path / "file" / "config.yaml")


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(ConfigError("One sentence.")))
    assert isinstance(error, UserError)
    assert str(error) == "One sentence."


def test_every_shipped_configuration_loads():
    shipped = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
    for path in shipped:
        needs_paths = ["data.questions=q.json", "data.databases=dbs"]
        steps = load_config(path, needs_paths).run.num_steps
        assert steps >= 1 or path.name == "spider_supervised.yaml"  # the supervised stage alone


@pytest.mark.parametrize("name", ["", "..", "a/b", "../../x", "a\\b", "a\0b", "a\x1b[2J"])
def test_a_name_that_is_no_folders_is_refused(name):
    with pytest.raises(ConfigError, match=r"run\.name is"):
        load_config(None, [f"run.name={name!r}" if name else "run.name=''"])


def test_aliases_that_stand_for_too_much_are_refused_before_they_are_expanded(tmp_path):
    bomb = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    said = refusal(tmp_path, bomb)
    assert "line 6 has an alias" in said and len(said) < 500
