"""The preflight checks of model files, databases, golds and prompts: each fault is made and found."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from vllm.config import ModelConfig

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.questions.question_sets import QuestionSets
from floe.cluster.messages import Question
from floe.cluster.preflight import data_checks, model_files
from floe.cluster.preflight.examination import model_checks
from floe.cluster.preflight.finding import Finding, Level
from floe.configs.schema import LoraSection, ModelSection, PromptSection, RewardSection, RunConfig
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

TEMPLATE = (
    "{% for message in messages %}<s>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>{% endif %}"
)
CONFIG = RunConfig()


def is_fault(finding: Finding, *parts: str) -> bool:
    """Check for a fault whose line says all that it must."""
    assert all(part in finding.sentence for part in parts), finding
    assert finding.remedy
    return finding.level is Level.FAULT


def is_ok(finding: Finding) -> bool:
    assert finding.level is Level.OK, finding
    return True


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory) -> Path:
    folder = save_tiny_llama(tmp_path_factory.mktemp("model"), max_position_embeddings=1024)
    save_tokenizer(folder, TEMPLATE)
    return folder


@pytest.fixture
def model(whole_model, tmp_path) -> Path:
    """Make a copy to damage."""
    return Path(shutil.copytree(whole_model, tmp_path / "model"))


def save_tokenizer(folder: Path, template: str | None, end: str | None = "</s>") -> None:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2}, unk_token="<unk>"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token="</s>")
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)


# Model


def test_a_whole_model_is_sound(model):
    assert is_ok(model_files.model_config(model, CONFIG.model))
    assert is_ok(model_files.weights(model, CONFIG))
    assert is_ok(model_files.tokenizer(model))
    assert is_ok(model_files.chat_template(CONFIG, model))


def test_weights_of_an_adapter_are_those_that_peft_makes(model):
    from floe.learner.policy.policy import adapter_tensors, build_policy

    section = ModelSection(path=str(model), dtype="float32")
    policy = build_policy(model, section, LoraSection(), dropout=0.0, seed=1, initial=None, with_reference=False)
    num_weights = sum(tensor.numel() for tensor in adapter_tensors(policy).values())
    assert model_files.num_adapter_weights(model, LoraSection()) == num_weights


def test_no_configuration(model):
    (model / "config.json").unlink()
    assert is_fault(model_files.model_config(model, CONFIG.model), "no config.json")


def test_a_configuration_of_no_known_architecture(model):
    (model / "config.json").write_text('{"model_type": "nothing-known"}')
    assert is_fault(model_files.model_config(model, CONFIG.model), "can't be used")


def test_a_context_longer_than_the_models(model):
    found = model_files.model_config(model, ModelSection(max_context_tokens=4096))
    assert is_fault(found, "is 4096", "1024 at most", "set model.max_context_tokens=1024")


@pytest.mark.parametrize(
    ("kind", "original", "limit"),
    [("yarn", 256, 1024), ("yarn", 1024, 1024), ("linear", None, 4096), ("dynamic", None, 4096), ("llama3", 256, 1024)],
)
def test_a_context_that_is_extended(model, kind, original, limit):
    path = model / "config.json"
    scaling = {"rope_type": kind, "factor": 4.0, "rope_theta": 10000.0}
    scaling |= {} if original is None else {"original_max_position_embeddings": original}
    scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if kind == "llama3" else {}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rope_parameters": scaling}))
    assert is_ok(model_files.model_config(model, ModelSection(max_context_tokens=limit)))
    assert is_fault(model_files.model_config(model, ModelSection(max_context_tokens=limit + 1)), f"{limit} at most")
    assert ModelConfig(str(model), max_model_len=limit).max_model_len == limit
    with pytest.raises(ValueError, match="max_model_len"):
        ModelConfig(str(model), max_model_len=limit + 1)


def test_the_tokenizer_is_loaded_once_for_both_of_its_checks(model, monkeypatch):
    loaded: list[Path] = []
    load = model_files.load_tokenizer
    monkeypatch.setattr(model_files, "load_tokenizer", lambda folder: loaded.append(folder) or load(folder))
    assert all(is_ok(check()) for _, check in model_checks(CONFIG, model))
    assert loaded == [model]


def test_sliding_windows_are_computed(model):
    path = model / "config.json"
    shape = {"model_type": "qwen2", "num_hidden_layers": 1, "layer_types": ["sliding_attention"]}
    path.write_text(json.dumps(shape | {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}))
    assert is_ok(model_files.model_config(model, CONFIG.model))


def test_a_family_that_the_learner_does_not_compute(model):
    (model / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    assert is_fault(model_files.model_config(model, CONFIG.model), "'bloom' is its own", "docs/families.md")


def test_experts_without_a_gpu(model):
    (model / "config.json").write_text(json.dumps({"model_type": "mixtral", "num_hidden_layers": 1}))
    assert is_fault(model_files.model_config(model, CONFIG.model), "mixture of experts", "rollout.num_gpus")
    assert is_ok(model_files.model_config(model, CONFIG.model, samples_on_cpu=False))


def test_weights_cut_short(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert is_fault(model_files.weights(model, CONFIG), str(path), "bytes", "fetch it again")


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"version https://git-lfs.example/v1\n", "Git LFS"), (b"", "no safetensors"), (b"x" * 99, "no safetensors")],
)
def test_weights_that_are_none(model, content, part):
    (model / "model.safetensors").write_bytes(content)
    assert is_fault(model_files.weights(model, CONFIG), part)


def test_no_weights(model):
    (model / "model.safetensors").unlink()
    of_folder = CONFIG.model_copy(update={"model": ModelSection(path=str(model))})
    assert is_fault(model_files.weights(model, of_folder), "no *.safetensors")
    of_hub = CONFIG.model_copy(update={"model": ModelSection(path="somebody/something")})
    assert model_files.weights(model, of_hub).level is Level.WARNING


def test_a_part_of_the_weights_is_missing(model):
    (model / model_files.INDEX).write_text('{"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}')
    assert is_fault(model_files.weights(model, CONFIG), "model-2.safetensors is missing")
    (model / model_files.INDEX).write_text("[]")
    assert is_fault(model_files.weights(model, CONFIG), "no index")


def test_modules_that_the_model_has_not(model):
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "model.safetensors")
    save_file({name: one for name, one in tensors.items() if "q_proj" not in name}, model / "model.safetensors")
    assert is_fault(model_files.weights(model, CONFIG), "no q_proj", "lora.target_modules")


def test_no_tokenizer(model):
    for path in model.glob("tokenizer*"):
        path.unlink()
    assert is_fault(model_files.tokenizer(model), "can't be loaded")


def test_a_tokenizer_without_end(model):
    save_tokenizer(model, TEMPLATE, end=None)
    assert is_fault(model_files.tokenizer(model), "no end token")


def test_a_tokenizer_of_another_model(model):
    save_word_tokenizer(model, num_words=65)
    assert is_fault(model_files.tokenizer(model), "up to number 64, the model has 64 rows")


@pytest.mark.parametrize(
    ("template", "part"),
    [
        (None, "has no chat template: use an instruct model."),
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% if %}", "refuses"),
        ("{{ messages[0]['role'] }}", "leaves out the question"),
    ],
)
def test_a_chat_template_that_can_not_be_used(model, template, part):
    (model / "chat_template.jinja").unlink()
    save_tokenizer(model, template)
    assert is_fault(model_files.chat_template(CONFIG, model), part)


def test_a_template_that_ends_a_turn_with_another_token(model):
    save_tokenizer(model, "{% for message in messages %}{{ message['content'] }}<end>{% endfor %}")
    found = model_files.chat_template(CONFIG, model)
    assert (found.level, "ends no turn with </s>" in found.what) == (Level.WARNING, True)


# Data


@pytest.fixture
def shop(tmp_path) -> Iterator[Path]:
    (tmp_path / "shop").mkdir()
    connection = sqlite3.connect(tmp_path / "shop" / "shop.sqlite")
    connection.executescript("CREATE TABLE item (name TEXT, price REAL); INSERT INTO item VALUES ('a', 1), ('b', 2);")
    connection.close()
    yield tmp_path


def sets_of(folder: Path, *golds: str, database_id: str = "shop") -> QuestionSets:
    questions = tuple(
        Question(question_id=str(number), database_id=database_id, text="How many?", gold_sql=(gold,))
        for number, gold in enumerate(golds)
    )
    return QuestionSets(databases_dir=folder, train=questions, tune=(), test=())


def look_at_golds(sets: QuestionSets, time_limit_s: float = 5.0) -> Finding:
    return data_checks.golds(sets, RewardSection(), 0.2, 12, time_limit_s)


RUNS, FAILS = "SELECT count(*) FROM item", "SELECT weight FROM item"
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_sound_data(shop):
    sets = sets_of(shop, RUNS, RUNS)
    assert is_ok(data_checks.databases(sets))
    assert is_ok(look_at_golds(sets))


@pytest.mark.parametrize(("content", "part"), [(b"", "is empty"), (b"no database", "is no SQLite file")])
def test_a_database_that_is_none(shop, content, part):
    (shop / "shop" / "shop.sqlite").write_bytes(content)
    assert is_fault(data_checks.databases(sets_of(shop, RUNS)), "1 of 1 databases", part)


def test_a_database_that_is_missing(shop):
    assert is_fault(data_checks.databases(sets_of(shop, RUNS, database_id="other")), "other.sqlite can't be read")


def test_a_database_damaged_behind_its_first_bytes(shop):
    path = shop / "shop" / "shop.sqlite"
    path.write_bytes(path.read_bytes()[:16] + b"x" * 5000)
    assert is_fault(look_at_golds(sets_of(shop, RUNS, FAILS)), "infrastructure", "question 0")


def test_golds_that_fail(shop):
    assert is_fault(look_at_golds(sets_of(shop, FAILS)), "1 of 1 gold queries failed", "question 0 of database shop")
    few = look_at_golds(sets_of(shop, RUNS, FAILS))
    assert (few.level, "no such column: weight" in few.what) == (Level.WARNING, True)
    assert look_at_golds(sets_of(shop, *[RUNS] * 10, FAILS)).level is Level.WARNING
    assert is_fault(look_at_golds(sets_of(shop, *[RUNS] * 8, FAILS, FAILS, FAILS)), "3 of 11")


def test_a_gold_that_never_gives_the_same(shop):
    assert is_fault(look_at_golds(sets_of(shop, "SELECT random()")), "mismatch")


@pytest.mark.heavy
def test_a_slow_gold_is_none_of_the_quick_look(shop):
    assert is_ok(look_at_golds(sets_of(shop, ENDLESS), time_limit_s=0.1))
    found = data_checks.golds(sets_of(shop, ENDLESS), RewardSection(time_limit_s=0.1), 0.2, 12, 0.1)
    assert is_fault(found, "timeout")


def test_a_sample_takes_every_database_in_turn():
    ids = ["a", "a", "a", "b", "b", "c"]
    questions = [
        Question(question_id=str(number), database_id=one, text="?", gold_sql=("SELECT 1",))
        for number, one in enumerate(ids)
    ]
    assert [one.question_id for one in data_checks.sample_of(questions, 5)] == ["0", "3", "5", "1", "4"]


def test_prompts_that_are_too_long(shop, model):
    def look(max_tokens: int) -> Finding:
        sets = sets_of(shop, RUNS, RUNS)
        encoder = PromptEncoder(model, shop, PromptSection(), max_tokens=max_tokens)
        return data_checks.prompt_lengths(sets, encoder, max_tokens, 10)

    assert is_ok(look(500))
    assert is_fault(look(1), "each of 2 prompts exceeds 1 tokens", "model.max_context_tokens")
