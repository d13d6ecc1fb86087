"""Runs that start from an adapter: what the configuration means, what is found and refused, and where it is named."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import floe
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.api.settings import configuration, override_texts
from floe.cluster.checkpoints.inputs import inputs_of
from floe.cluster.checkpoints.resume_rules import check_inputs, check_resume, with_saved_adapter
from floe.cluster.checkpoints.state import RunState
from floe.cluster.checkpoints.store import CheckpointStore
from floe.cluster.evaluation.before_after_table import start_row
from floe.cluster.exports.initial_adapter import AdapterGoneError, initial_adapter
from floe.cluster.exports.model_card import shown_name
from floe.cluster.memory_plan.learner.learner_memory import learner_state
from floe.cluster.operations import train as operation
from floe.cluster.operations.plan import _start_sentence
from floe.cluster.preflight import examination
from floe.cluster.preflight.finding import Level
from floe.cluster.preflight.initial_adapter import check_initial_adapter
from floe.cluster.report_page.overview import settings as report_settings
from floe.cluster.run_folder.layout import config_of_run
from floe.cluster.terminal.progress import Progress, make_console
from floe.cluster.time_plan.tokens import TextLengths, expected_completion_tokens
from floe.cluster.training import warm_start
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import dump_config, load_config
from floe.configs.schema import LoraSection, RunConfig, WarmStartSection
from floe.learner.adapter.files import CONFIG, WEIGHTS
from tests.peft_adapters import ALPHA, RANK, TARGETS, peft_logprobs, save_adapter
from tests.run_folders import run_folder
from tests.test_memory_plan import SHAPE_3B
from tests.tiny_models import save_tiny_llama

TEXT = [3, 9, 27, 17, 51, 25, 11, 33]


@pytest.fixture
def base(tmp_path) -> Path:
    return save_tiny_llama(tmp_path / "base-model")


@pytest.fixture
def adapter(tmp_path, base) -> Path:
    return save_adapter(tmp_path / "adapter", base)


def config_for(adapter: Path | str, base: Path, *overrides: str) -> RunConfig:
    shape = f"lora.rank={RANK}", f"lora.alpha={ALPHA}", f"lora.target_modules=[{','.join(TARGETS)}]"
    home = f"run.home={base.parent / 'home'}"
    return load_config(None, [home, f"model.path={base}", *shape, f"lora.initial_adapter={adapter}", *overrides])


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def refusal(adapter: Path, base: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as fault:
        check_initial_adapter(config_for(adapter, base, *overrides), adapter, base)
    assert "\n" not in str(fault.value) and str(adapter) in str(fault.value)
    return str(fault.value)


# The configuration


def test_there_is_no_warm_start_with_an_adapter_unless_it_is_set(tmp_path):
    (tmp_path / "first.yaml").write_text("warm_start: {max_epochs: 1}\nlora: {initial_adapter: ./adapter}\n")
    found = load_config(tmp_path / "first.yaml")
    assert (found.warm_start.enabled, found.warm_start.max_epochs) == (False, 1)
    assert found.lora.initial_adapter == str(tmp_path / "adapter")
    assert load_config(tmp_path / "first.yaml", ["warm_start.enabled=true"]).warm_start.enabled
    assert load_config(tmp_path / "first.yaml", ["lora.initial_adapter=null"]).warm_start.enabled
    made = {"lora": LoraSection(initial_adapter="a"), "warm_start": WarmStartSection(max_epochs=1)}
    assert not RunConfig(**made).warm_start.enabled
    assert RunConfig(**made | {"warm_start": WarmStartSection(enabled=True)}).warm_start.enabled


@pytest.mark.parametrize("is_set", [True, False])
def test_a_written_configuration_is_read_back_the_same(tmp_path, is_set):
    overrides = ["warm_start.enabled=true"] if is_set else []
    found = load_config(None, ["lora.initial_adapter=somebody/adapter", *overrides])
    dump_config(found, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == found
    assert found.warm_start.enabled == is_set and found.lora.initial_adapter == "somebody/adapter"


def test_an_empty_name_is_refused(tmp_path):
    (tmp_path / "empty.yaml").write_text("lora: {initial_adapter: ' '}\n")
    with pytest.raises(ConfigError, match=r"lora\.initial_adapter is empty"):
        load_config(tmp_path / "empty.yaml")


def test_a_run_stands_for_its_folder_in_overrides(tmp_path):
    run = floe.Run(run_folder(tmp_path / "run"))
    given = override_texts({"lora.initial_adapter": run, "lora": {"rank": 8}})
    assert configuration(None, given).lora.initial_adapter == str(tmp_path / "run") == os.fspath(run)


@pytest.mark.parametrize(
    ("overrides", "copies"),
    [
        ([], 2),
        (["lora.initial_adapter=a/b"], 2),
        (["lora.initial_adapter=a/b", "algorithm.kl_reference=base"], 1),
        (["lora.initial_adapter=a/b", "algorithm.kl_coefficient=0"], 1),
        (["warm_start.enabled=false"], 1),
    ],
)
def test_a_copy_of_the_adapter_is_planned_where_it_is_the_reference(overrides, copies):
    config = load_config(None, ["model.dtype=bfloat16", *overrides])
    num = SHAPE_3B.num_adapter_parameters(config.lora.rank, config.lora.target_modules)
    assert learner_state(config, SHAPE_3B).adapter == 2 * num * copies


def test_answers_are_planned_as_after_a_warm_start():
    lengths = TextLengths(prompt_tokens=100, answer_tokens=10)
    without, given = (load_config(None, one) for one in (["warm_start.enabled=false"], ["lora.initial_adapter=a/b"]))
    warmed = expected_completion_tokens(RunConfig(), lengths)
    assert expected_completion_tokens(given, lengths) == warmed < expected_completion_tokens(without, lengths)


# What is found


def test_a_run_stands_for_its_best_adapter_and_else_its_latest(tmp_path, base):
    run_dir = run_folder(tmp_path / "run")
    for name in ("best", "latest", "start"):
        shutil.copytree(save_adapter(tmp_path / name, base), run_dir / "adapters" / name)
    assert initial_adapter(config_for(run_dir, base)) == run_dir / "adapters" / "best"
    shutil.rmtree(run_dir / "adapters" / "best")
    assert initial_adapter(config_for(run_dir, base)) == run_dir / "adapters" / "latest"
    assert initial_adapter(config_for(run_dir / "adapters" / "start", base)) == run_dir / "adapters" / "start"
    assert initial_adapter(RunConfig()) is None


def test_a_name_is_fetched_from_the_hub_with_its_two_files_alone(tmp_path, base, monkeypatch):
    asked = []

    def fetch(name, **options) -> str:
        asked.append((name, sorted(options["allow_patterns"])))
        return str(tmp_path / "fetched")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert initial_adapter(config_for("somebody/adapter", base)) == tmp_path / "fetched"
    assert asked == [("somebody/adapter", [CONFIG, WEIGHTS])]


@pytest.mark.parametrize("name", ["nowhere", "run"])
def test_what_is_not_there_is_said(tmp_path, base, name):
    run_folder(tmp_path / "run")  # without an adapter
    with pytest.raises(AdapterGoneError, match=str(tmp_path / name)):
        initial_adapter(config_for(tmp_path / name, base))


def test_a_name_that_is_not_on_the_hub_is_said(base, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AdapterGoneError, match=r"lora\.initial_adapter is 'somebody/adapter', which is neither"):
        initial_adapter(config_for("somebody/adapter", base))


# What is refused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_plain_adapter_is_taken_in_both_precisions(tmp_path, base, dtype):
    adapter = save_adapter(tmp_path / "adapter", base, dtype=dtype)
    said = check_initial_adapter(config_for(adapter, base), adapter, base)
    assert said == f"{adapter}: rank 8, alpha 24, {str(dtype).removeprefix('torch.')}"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["lora.rank=16"], ("rank 8 and alpha 24", "has 16 and 24", "set lora.rank and lora.alpha")),
        (["lora.alpha=8"], ("rank 8 and alpha 24", "has 8 and 8", "set lora.rank and lora.alpha")),
        (["lora.target_modules=[q_proj]"], ("['down_proj', 'q_proj']", "set lora.target_modules")),
    ],
)
def test_another_shape_than_the_configurations_is_refused(adapter, base, overrides, parts):
    said = refusal(adapter, base, *overrides)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "bias"),
        ({"use_rslora": True}, "use_rslora"),  # 24 * sqrt(8) is no whole number
        ({"r": 4}, "rank 4, which vLLM has no slot for"),
    ],
)
def test_more_than_plain_lora_is_refused_and_what_helps_is_said(tmp_path, base, options, part):
    said = refusal(save_adapter(tmp_path / "adapter", base, **options), base)
    assert part in said and "merge it into its base" in said and "model.path" in said


def test_rank_stabilised_scaling_is_refused_with_the_plain_alpha_that_computes_the_same(tmp_path, base):
    adapter = save_adapter(tmp_path / "adapter", base, r=16, lora_alpha=10, use_rslora=True)
    said = refusal(adapter, base, "lora.rank=16", "lora.alpha=10")
    assert "set use_rslora to false and lora_alpha to 40" in said and "lora.alpha=40" in said
    before = peft_logprobs(base, adapter, TEXT)
    change_config(adapter, use_rslora=False, lora_alpha=40)
    assert check_initial_adapter(config_for(adapter, base, "lora.rank=16", "lora.alpha=40"), adapter, base)
    torch.testing.assert_close(peft_logprobs(base, adapter, TEXT), before)


def test_another_base_is_refused_by_its_name(adapter, base):
    change_config(adapter, base_model_name_or_path="Qwen/Qwen2.5-0.5B")
    said = refusal(adapter, base)
    assert f"base model Qwen/Qwen2.5-0.5B, and model.path is {base}" in said
    assert 'set base_model_name_or_path in its adapter_config.json to "base-model"' in said
    change_config(adapter, base_model_name_or_path="base-model")
    assert check_initial_adapter(config_for(adapter, base), adapter, base)


def test_the_same_base_elsewhere_is_taken_and_another_of_its_shape_is_not(tmp_path, adapter, base):
    shutil.copytree(base, tmp_path / "moved")
    assert check_initial_adapter(config_for(adapter, tmp_path / "moved"), adapter, tmp_path / "moved")
    torch.manual_seed(9)
    other = save_tiny_llama(tmp_path / "other", initializer_range=0.5)
    assert "was made for the base model" in refusal(adapter, other)


def test_a_revision_in_the_hubs_cache_is_the_model_of_that_name(tmp_path, adapter, base):
    cached = tmp_path / "models--somebody--base" / "snapshots" / "abc"
    shutil.copytree(base, cached)
    for named in ("somebody/base", "/elsewhere/models--somebody--base/snapshots/def"):
        change_config(adapter, base_model_name_or_path=named)
        assert check_initial_adapter(config_for(adapter, cached), adapter, cached)


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ({"num_hidden_layers": 3}, "adapts 2 layers, and the model in {} has 3: set model.path"),
        ({"hidden_size": 64}, "has [8, 48] for lora_A of down_proj"),
    ],
)
def test_a_base_of_the_same_name_and_another_shape_is_refused(tmp_path, adapter, shape, part):
    other = save_tiny_llama(tmp_path / "elsewhere" / "base-model", **shape)
    if "hidden_size" in shape:
        part = "has [32, 8] for lora_B of down_proj in layer 0, and the model in {} needs [64, 8]"
    assert part.format(other) in refusal(adapter, other)


def test_doctor_says_what_the_adapter_is_and_how_it_differs(tmp_path, adapter, base, monkeypatch):
    monkeypatch.setattr(examination, "machine_checks", lambda config: ())
    monkeypatch.setattr(examination, "_cluster_findings", lambda *_: ())
    data = config_of_run(run_folder(tmp_path / "run"), ()).data
    given = [f"data.{name}={getattr(data, name)}" for name in ("source", "questions", "databases")]
    found = []
    for rank in (8, 16):
        config = config_for(adapter, base, *given, f"lora.rank={rank}", "cluster.address=local")
        found += [one for one in examination.examine(config) if one.name == "initial adapter"]
    assert [one.level for one in found] == [Level.OK, Level.FAULT]
    assert found[0].what == f"{adapter}: rank 8, alpha 24, float32"
    assert "rank 8 and alpha 24" in found[1].what and found[1].remedy.startswith("set lora.rank")


# Resume


@pytest.fixture
def sets(tmp_path) -> QuestionSets:
    return QuestionSets(databases_dir=tmp_path, train=(), tune=(), test=())


def state_of(config: RunConfig, inputs) -> RunState:
    configuration = config.model_dump(mode="json")
    return RunState(
        step=2, metrics_position=0, configuration=configuration, library_versions={}, live_adapter_versions=(2,),
        inputs=inputs,
    )  # fmt: skip


def test_another_adapter_is_refused_and_the_same_elsewhere_is_known_by_its_content(tmp_path, adapter, base, sets):
    config = config_for(adapter, base)
    state = state_of(config, inputs_of(config, base, sets, adapter))
    assert RunState.from_json(state.to_json()) == state
    shutil.copytree(adapter, tmp_path / "copy")
    assert check_inputs(state, inputs_of(config, base, sets, tmp_path / "copy")) == []
    other = save_adapter(tmp_path / "other", base, seed=6)
    with pytest.raises(UserError, match="other weights of its initial adapter"):
        check_inputs(state, inputs_of(config, base, sets, other))
    for changes in (["algorithm.kl_reference=base"], [f"lora.initial_adapter={other}"]):
        with pytest.raises(UserError, match="that would be another run"):
            check_resume(state.configuration, config_for(adapter, base, *changes))


def test_a_checkpoint_without_the_keys_is_one_without_an_adapter(base, sets):
    config = load_config(None, [f"run.home={base.parent / 'home'}"])
    state = state_of(config, inputs_of(config, base, sets))
    old = json.loads(state.to_json())
    del old["inputs"]["initial_adapter"], old["configuration"]["lora"]["initial_adapter"]
    del old["configuration"]["algorithm"]["kl_reference"]
    found = RunState.from_json(json.dumps(old).encode())
    assert check_inputs(found, inputs_of(config, base, sets)) == check_resume(found.configuration, config) == []


def test_a_started_run_goes_on_without_the_folder_and_keeps_its_digest(tmp_path, adapter, base, sets):
    config = config_for(adapter, base)
    (tmp_path / "run").mkdir()
    store, progress = CheckpointStore(tmp_path / "run", 2, print), Progress(make_console(), 3)
    assert operation._initial_adapter(config, base, store, progress) == adapter
    inputs = inputs_of(config, base, sets, adapter)
    shutil.rmtree(adapter)
    with pytest.raises(AdapterGoneError, match="there is no such folder"):
        operation._initial_adapter(config, base, store, progress)
    store.write(2, lambda folder: (folder / "weights").write_text("w"), state_of(config, inputs))
    assert operation._initial_adapter(config, base, store, progress) is None
    gone = inputs_of(config, base, sets, None)
    state = store.newest().state
    assert check_inputs(state, gone) == [] and with_saved_adapter(gone, state) == inputs


def test_a_warm_start_is_of_its_initial_adapter_and_without_one_found_as_before(tmp_path, adapter, base):
    config = config_for(adapter, base, "warm_start.enabled=true")
    plain = config.model_copy(update={"lora": config.lora.model_copy(update={"initial_adapter": None})})
    assert set(plain.lora.model_dump()) == {"rank", "alpha", "dropout", "target_modules", "initial_adapter"}
    before = warm_start._key(plain, base, [], [])
    assert warm_start._key(config, base, [], []) == before
    other = save_adapter(tmp_path / "other", base, seed=6)
    keys = {warm_start._key(config, base, [], [], one) for one in (adapter, other)}
    assert len(keys | {before}) == 3


# Where it is named


def test_the_tables_row_and_the_sentences_name_it(adapter, base):
    config = config_for(adapter, base)
    assert start_row(config) == "initial adapter" and start_row(RunConfig()) == "warm start"
    further = config_for(adapter, base, "warm_start.enabled=true", "algorithm.kl_reference=base")
    assert start_row(further) == "warm start"
    assert _start_sentence(config) == (
        f"GRPO starts from the adapter {adapter}, without a warm start; the reference of the KL term is a frozen copy "
        "of the adapter."
    )
    assert "trains further first; the reference of the KL term is the base model." in _start_sentence(further)
    assert ("started from", str(adapter)) in [(one.label, one.value) for one in report_settings(config)]
    assert "started from" not in [one.label for one in report_settings(RunConfig())]


def test_a_name_that_is_published_has_no_folder_of_this_machine():
    assert shown_name("/home/me/runs/first/adapters/best") == "first/adapters/best"
    assert (shown_name("/home/me/adapter"), shown_name("somebody/adapter")) == ("adapter", "somebody/adapter")
