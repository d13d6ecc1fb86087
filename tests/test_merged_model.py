"""Merged models: the arithmetic, base folders of every form, and what transformers then computes."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from floe.configs.errors import UserError
from floe.learner.adapter.merge import LoraPair, merged_weight, pairs_by_weight
from floe.learner.adapter.merged_model import INDEX, SINGLE, write_merged
from tests.tiny_models import save_tiny_llama, save_word_tokenizer

RANK, ALPHA = 8, 16
TARGETS = ["q_proj", "v_proj", "down_proj"]
TOKENS = torch.arange(10)[None]


def base_folder(folder: Path, *, sharded: bool = False, dtype: torch.dtype = torch.bfloat16, **options) -> Path:
    """Make a tiny Llama with tokenizer and chat template."""
    folder.mkdir()
    save_tiny_llama(folder, **options)
    save_word_tokenizer(folder, 64)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    model = AutoModelForCausalLM.from_pretrained(folder).to(dtype)
    (folder / SINGLE).unlink()
    model.save_pretrained(folder, max_shard_size="10KB" if sharded else "5GB")
    assert (folder / INDEX).is_file() == sharded
    return folder


def adapter_of(base: Path) -> dict[str, torch.Tensor]:
    """Return an adapter, random and large enough to move every logit."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(5)
    adapted = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return {name: tensor.bfloat16() for name, tensor in get_peft_model_state_dict(adapted).items()}


def merge(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    adapter = adapter_of(base)
    folder.mkdir()
    write_merged(base, pairs_by_weight(adapter, RANK, ALPHA), folder)
    return adapter


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.float().eval()(input_ids=TOKENS).logits


def with_adapter(base: Path, adapter: dict[str, torch.Tensor], folder: Path) -> PeftModel:
    """Merge in PEFT's own way, in float32."""
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, task_type="CAUSAL_LM")
    settings.save_pretrained(folder)
    save_file(adapter, folder / "adapter_model.safetensors")
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sharded": True},
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": True, "sharded": True},
        {"dtype": torch.float32},
    ],
)
def test_the_merged_model_computes_what_base_and_adapter_do(tmp_path, options):
    base = base_folder(tmp_path / "base", **options)
    adapter = merge(base, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert {parameter.dtype for parameter in merged.parameters()} == {torch.bfloat16}
    tied = merged.get_output_embeddings().weight is merged.get_input_embeddings().weight
    assert tied == options.get("tie_word_embeddings", False)
    expected = logits(with_adapter(base, adapter, tmp_path / "adapter"))
    plain = logits(AutoModelForCausalLM.from_pretrained(base))
    difference = (logits(merged) - expected).abs().max()
    # A weight's rounding to 8 bits of mantissa is half of 2**-8 of it; the adapter's part is far larger.
    assert difference < 0.01 * expected.abs().max()
    assert difference < 0.1 * (plain - expected).abs().max()


def test_every_weight_is_the_sum_rounded_once(tmp_path):
    base = base_folder(tmp_path / "base", sharded=True)
    adapter = merge(base, tmp_path / "merged")
    index = json.loads((tmp_path / "merged" / INDEX).read_text())
    assert index["weight_map"] == json.loads((base / INDEX).read_text())["weight_map"]
    before, after = ({k: v for file in sorted(one.glob("*.safetensors")) for k, v in load_file(file).items()}
                     for one in (base, tmp_path / "merged"))  # fmt: skip
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in after.values())
    assert before.keys() == after.keys()
    for name, weight in before.items():
        stem = "base_model.model." + name.removesuffix(".weight")
        if stem + ".lora_A.weight" in adapter:
            lora_a, lora_b = (adapter[f"{stem}.lora_{half}.weight"].double() for half in "AB")
            exact = weight.double() + ALPHA / RANK * lora_b @ lora_a
            # One rounding: half of the last place, and a little where float32 lies on the other side of the middle.
            assert ((after[name].double() - exact).abs() <= exact.abs() * 2**-8 * (1 + 1e-3) + 1e-9).all(), name
            assert not torch.equal(after[name], weight)
        else:
            assert torch.equal(after[name], weight), name


def test_what_lies_beside_the_weights_comes_along(tmp_path):
    base = base_folder(tmp_path / "base", sharded=True, dtype=torch.float32)
    (base / "LICENSE").write_text("Apache License")
    (base / "README.md").write_text("the base's card")
    (base / "pytorch_model.bin.index.json").write_text("{}")
    merge(base, tmp_path / "merged")
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert names == {path.name for path in base.iterdir()} - {"README.md", "pytorch_model.bin.index.json"}
    for name in (
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
        "LICENSE",
    ):
        assert (tmp_path / "merged" / name).read_bytes() == (base / name).read_bytes()
    before, after = (json.loads((one / "config.json").read_text()) for one in (base, tmp_path / "merged"))
    assert after == before | {"dtype": "bfloat16"} and before["dtype"] == "float32"


def _index(base: Path, file: str) -> None:
    (base / INDEX).write_text(json.dumps({"weight_map": {"a": file}}))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda base: (base / SINGLE).unlink(), "has neither model.safetensors nor"),
        (lambda base: (base / SINGLE).write_bytes(b"nonsense"), "Can't read .*model.safetensors"),
        (lambda base: (base / INDEX).write_text("[]"), "holds no JSON object"),
        (lambda base: (base / INDEX).write_text("{}"), "does not name safetensors files"),
        (lambda base: _index(base, "../../secret.safetensors"), "does not name safetensors files"),
        (lambda base: _index(base, "other.safetensors"), "has no other.safetensors"),
        (lambda base: (base / "config.json").write_text("{"), "Can't read .*config.json"),
        (lambda base: (base / "config.json").write_text('{"quantization_config": {"bits": 4}}'), "is quantized"),
        (lambda base: save_file({"x": torch.ones(1)}, base / SINGLE), "has no .*which the adapter adapts"),
    ],
)
def test_a_base_that_can_not_be_merged_into_is_said(tmp_path, spoil, complaint):
    base = base_folder(tmp_path / "base")
    pairs = pairs_by_weight(adapter_of(base), RANK, ALPHA)
    spoil(base)
    (tmp_path / "merged").mkdir()
    with pytest.raises(UserError, match=complaint):
        write_merged(base, pairs, tmp_path / "merged")


def test_a_base_of_another_size_is_refused(tmp_path):
    pairs = pairs_by_weight(adapter_of(base_folder(tmp_path / "base")), RANK, ALPHA)
    other = base_folder(tmp_path / "other", hidden_size=16)
    (tmp_path / "merged").mkdir()
    with pytest.raises(UserError, match=r"it has shape .* the adapter is for"):
        write_merged(other, pairs, tmp_path / "merged")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"base_model.model.x.lora_A.weight": torch.ones(RANK, 4)}, "not one of a pair"),
        ({"base_model.model.x.lora_magnitude_vector": torch.ones(4)}, "not one of a pair"),
        ({"x.lora_A.weight": torch.ones(RANK, 4), "x.lora_B.weight": torch.ones(4, RANK)}, "does not begin with"),
        ({"base_model.model.m.lora_A.weight": torch.ones(RANK + 1, 4)}, "not of rank 8"),
        ({"base_model.model.m.lora_B.weight": torch.ones(4, 4, RANK)}, "not of rank 8"),
        ({"base_model.model.m.lora_B.weight": torch.full((4, RANK), float("nan"))}, "finite"),
        ({"base_model.model.m.lora_B.weight": torch.ones(4, RANK, dtype=torch.int64)}, "finite"),
    ],
)
def test_what_is_no_lora_adapter_is_refused(changes, complaint):
    shapes = {"A": (RANK, 4), "B": (4, RANK)}
    plain = {f"base_model.model.m.lora_{half}.weight": torch.ones(*shape) for half, shape in shapes.items()}
    assert pairs_by_weight(plain, RANK, ALPHA).keys() == {"m.weight"}
    with pytest.raises(ValueError, match=complaint):
        pairs_by_weight(plain | changes, RANK, ALPHA)


@given(st.integers(0, 2**32), st.sampled_from([torch.float32, torch.bfloat16, torch.float16]), st.floats(0.1, 8))
def test_merging_is_linear_in_float32(seed, dtype, scaling):
    generator = torch.Generator().manual_seed(seed)
    weight, lora_a, lora_b = (torch.randn(*shape, generator=generator).to(dtype) for shape in ((6, 5), (2, 5), (6, 2)))
    merged = merged_weight(weight, LoraPair(lora_a, lora_b, scaling))
    exact = weight.double() + scaling * lora_b.double() @ lora_a.double()
    magnitude = weight.double().abs() + scaling * lora_b.double().abs() @ lora_a.double().abs()
    assert merged.dtype == torch.bfloat16
    assert ((merged.double() - exact).abs() <= exact.abs() * 2**-8 + magnitude * 2**-20).all()
    assert torch.equal(merged_weight(weight, LoraPair(lora_a, torch.zeros_like(lora_b), scaling)), weight.bfloat16())


def test_a_sum_that_is_not_finite_is_refused():
    huge = torch.full((2, 2), 3e38)
    with pytest.raises(ValueError, match="not finite"):
        merged_weight(huge, LoraPair(torch.ones(1, 2), torch.full((2, 1), 3e38), 1.0))
