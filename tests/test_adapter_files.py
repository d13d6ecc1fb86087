"""Adapters as bytes and as PEFT folders: what is written is read back, PEFT loads it, others are refused."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load, save
from transformers import LlamaForCausalLM
from xxhash import xxh3_128_hexdigest

from floe.configs.errors import UserError
from floe.configs.schema import LoraSection
from floe.learner.adapter.export import export_blob, to_blob
from floe.learner.adapter.files import CONFIG, WEIGHTS, read_adapter, write_adapter
from tests.tiny_models import tiny_llama_config

TARGETS = ("q_proj", "v_proj", "down_proj")
LORA = LoraSection(rank=8, alpha=16, target_modules=TARGETS)
BASE = Path("/models/base")


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(1)
    return LlamaForCausalLM(tiny_llama_config()).eval()


def adapted(**options) -> PeftModel:
    """A tiny Llama with an adapter of random A and B."""
    settings = {"r": LORA.rank, "lora_alpha": LORA.alpha, "target_modules": list(TARGETS), "task_type": "CAUSAL_LM"}
    model = get_peft_model(tiny_llama(), LoraConfig(**(settings | options)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model.eval()


def adapter() -> dict[str, torch.Tensor]:
    return get_peft_model_state_dict(adapted())


@pytest.fixture
def folder(tmp_path) -> Path:
    """An adapter as floe writes it."""
    write_adapter(tmp_path / "adapter", to_blob(adapter()), LORA, BASE)
    return tmp_path / "adapter"


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))


def assert_same_tensors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in actual.items():
        assert tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_written_is_read_back_bit_for_bit(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in adapter().items()}
    write_adapter(tmp_path / "adapter", to_blob(tensors), LORA, BASE)
    assert_same_tensors(read_adapter(tmp_path / "adapter", LORA), tensors)


def test_peft_loads_the_folder_and_computes_the_same(tmp_path):
    model = adapted()
    write_adapter(tmp_path / "adapter", to_blob(get_peft_model_state_dict(model)), LORA, BASE)
    loaded = PeftModel.from_pretrained(tiny_llama(), tmp_path / "adapter").eval()
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        expected, base = model(input_ids=tokens).logits, tiny_llama()(input_ids=tokens).logits
        torch.testing.assert_close(loaded(input_ids=tokens).logits, expected)
    assert not torch.allclose(expected, base, atol=1e-2)


def test_an_adapter_that_peft_wrote_is_read(tmp_path):
    model = adapted()
    model.save_pretrained(tmp_path)
    assert_same_tensors(read_adapter(tmp_path, LORA), get_peft_model_state_dict(model))


def test_an_earlier_folder_is_replaced_whole_and_nothing_is_left_beside_it(folder):
    (folder / "stray.bin").write_text("left over")
    tensors = {name: 2 * tensor for name, tensor in adapter().items()}
    write_adapter(folder, to_blob(tensors), LORA, BASE)
    assert_same_tensors(read_adapter(folder, LORA), tensors)
    assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_missing_parents_are_made(tmp_path):
    write_adapter(tmp_path / "run" / "adapters" / "latest", to_blob(adapter()), LORA, BASE)
    assert read_adapter(tmp_path / "run" / "adapters" / "latest", LORA)


def test_the_manifest_describes_the_blob_that_was_stored():
    tensors = adapter()
    stored = []

    def put_blob(array):
        stored.append(array.tobytes())
        return "reference"

    manifest = export_blob(tensors, LORA, 7, put_blob, "bfloat16")
    (blob,) = stored
    assert_same_tensors(load(blob), tensors)
    assert (manifest.version, manifest.rank, manifest.alpha, manifest.target_modules) == (7, 8, 16, TARGETS)
    assert manifest.num_modules == 2 * len(TARGETS)  # two layers
    assert manifest.num_bytes == len(blob)
    assert manifest.digest == xxh3_128_hexdigest(blob)
    assert manifest.blob_ref == "reference"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_blob_is_byte_for_byte_what_the_library_writes(dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in adapter().items()}
    assert to_blob(tensors) == save(tensors, metadata={"format": "pt"})


def test_the_same_adapter_has_the_same_bytes():
    assert to_blob(adapter()) == to_blob(dict(reversed(adapter().items())))


@pytest.mark.parametrize(
    ("lora", "complaint"),
    [
        (LORA.model_copy(update={"rank": 16}), "rank 8 and alpha 16, the configuration has 16 and 16"),
        (LORA.model_copy(update={"alpha": 32}), "rank 8 and alpha 16, the configuration has 8 and 32"),
        (LORA.model_copy(update={"target_modules": ("q_proj", "v_proj")}), r"lora\.target_modules"),
        (LORA.model_copy(update={"target_modules": (*TARGETS, "up_proj")}), r"lora\.target_modules"),
    ],
)
def test_an_adapter_of_another_shape_than_the_configurations_is_refused(folder, lora, complaint):
    with pytest.raises(UserError, match=complaint):
        read_adapter(folder, lora)


def test_weights_that_are_no_adapter_are_refused(tmp_path):
    write_adapter(tmp_path / "model", to_blob({"weight": torch.zeros(2, 2)}), LORA, BASE)
    with pytest.raises(UserError, match=r"lora\.target_modules"):
        read_adapter(tmp_path / "model", LORA)


@pytest.mark.parametrize(
    "options", [{"use_dora": True}, {"bias": "all"}, {"modules_to_save": ["lm_head"]}, {"use_rslora": True}]
)
def test_an_adapter_of_peft_that_is_more_than_plain_lora_is_refused(tmp_path, options):
    adapted(**options).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=next(iter(options))):
        read_adapter(tmp_path, LORA)


@pytest.mark.parametrize(
    "options",
    [
        {"alora_invocation_tokens": [5, 6]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"lora_bias": True},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"peft_type": "OFT"},
        {"trainable_token_indices": [3]},
        {"task_type": "SEQ_CLS"},
        {"an_option_of_later": {"on": True}},
    ],
)
def test_an_option_that_changes_what_an_adapter_means_is_refused_by_its_name(folder, options):
    change_config(folder, **options)
    with pytest.raises(UserError, match=f"sets .*{next(iter(options))}"):
        read_adapter(folder, LORA)


def test_options_that_change_nothing_are_passed_over(folder):
    change_config(folder, init_lora_weights="gaussian", runtime_config={"ephemeral_gpu_offload": True}, use_later=False)
    assert_same_tensors(read_adapter(folder, LORA), adapter())


@pytest.mark.parametrize("pattern", [{"rank_pattern": {"q_proj": 4}}, {"alpha_pattern": {"q_proj": 4}}])
def test_an_adapter_whose_modules_differ_in_rank_or_alpha_is_refused(folder, pattern):
    change_config(folder, **pattern)
    with pytest.raises(UserError, match=next(iter(pattern))):
        read_adapter(folder, LORA)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_folder_without_one_of_the_two_files_is_refused_by_its_name(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"is not an adapter folder: it has no {name}"):
        read_adapter(folder, LORA)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere' is not an adapter folder"):
        read_adapter(tmp_path / "nowhere", LORA)


def test_a_configuration_that_is_not_json_is_refused(folder):
    (folder / CONFIG).write_text("r: 8")
    with pytest.raises(UserError, match=f"{CONFIG}' is not JSON"):
        read_adapter(folder, LORA)


def test_weights_that_are_not_safetensors_are_refused(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:100])
    with pytest.raises(UserError, match=f"{WEIGHTS}' is not a safetensors file"):
        read_adapter(folder, LORA)
