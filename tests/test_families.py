"""Families of models: computed as the models themselves do, or refused; the check finds planted faults."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from floe.cluster.bench.families.family_rows import NO_MODULE, REFUSED, RIGHT, WRONG, family_row, groups
from floe.cluster.bench.families.tiny_families import WINDOW, tiny_config, write_tiny_model
from floe.cluster.messages import PromptWithAnswers
from floe.configs.errors import UserError
from floe.configs.model_families import engine_refusal, mlp_width, num_experts
from floe.configs.schema import ModelSection
from floe.configs.sections.learning_sections import LoraSection
from floe.learner.equality import start_check
from floe.learner.equality.equality_check import check_equality
from floe.learner.equality.start_check import check_policy, lengthened, longest_window, shortened, within
from floe.learner.families.attention_rules import AttentionRules
from floe.learner.families.output_head import OutputHead
from floe.learner.families.refusals import plain_config, refusal
from floe.learner.packing.packs import Branch, PrefixGroup
from floe.learner.policy import shared_prefix_attention
from floe.learner.policy.policy import adapter_tensors, build_policy
from tests.command_line import floe

LORA = LoraSection(rank=8, alpha=16)
# One of each kind: each has something that makes its attention or its head more than the plain one.
KINDS = {
    "llama": "plain",
    "mistral": "one window for all layers",
    "gemma2": "windows by layer, capped scores and logits",
    "gemma3_text": "windows by layer, two kinds of positions",
    "gemma3": "a decoder within a model that reads images, dropouts in its part of the configuration",
    "granite": "scaled embeddings, residuals, scores and logits",
    "cohere": "scaled logits",
    "phi3": "fused projections and a window",
    "phi": "a bias in the head",
    "gpt_oss": "sinks and experts",
    "deepseek_v3": "keys and values of other sizes",
    "qwen2_moe": "experts with a shared one",
}
REFUSALS = {
    "bloom": "attention of 'bloom' is its own",
    "opt": "attention of 'opt' is its own",
    "qwen3_5_text": "linear_attention",
    "lfm2": "'conv'",
    "llama4_text": "chunked_attention",
    "falcon_mamba": "linear_attention",
}


@pytest.mark.parametrize("model_type", KINDS)
def test_the_learner_computes_the_model_itself(model_type):
    row = family_row(model_type)
    assert row.status == RIGHT, row.why
    assert row.mean_difference < 1e-4 and row.max_difference < 1e-3 and row.gradient_difference < 1e-3


@pytest.mark.parametrize("model_type", REFUSALS)
def test_what_it_does_not_compute_is_refused_before_a_weight_is_there(model_type):
    row = family_row(model_type)
    assert row.status == REFUSED and REFUSALS[model_type] in row.why


def test_a_family_without_a_layer_to_adapt_is_told_apart():
    assert family_row("gpt2").status == NO_MODULE


def without(**changes):
    """Return an AttentionRules that has lost something."""
    return lambda **rules: AttentionRules(**(rules | changes))


@pytest.mark.parametrize(
    ("model_type", "lost"),
    [
        ("mistral", "window"),
        ("phi3", "window"),
        ("gemma3_text", "window"),
        ("gemma2", "score_cap"),
        ("gpt_oss", "sinks"),
    ],
)
def test_a_rule_that_is_left_out_is_found(monkeypatch, model_type, lost):
    monkeypatch.setattr(shared_prefix_attention, "AttentionRules", without(**{lost: None}))
    row = family_row(model_type)
    assert row.status == WRONG and "does not compute the model" in row.why and f"({model_type})" in row.why
    assert "first in model.layers.0:" in row.why


@pytest.mark.parametrize("model_type", ["gemma2", "granite", "cohere"])
def test_a_head_that_is_taken_as_a_plain_product_is_found(monkeypatch, model_type):
    monkeypatch.setattr("floe.learner.families.output_head._is_plain", lambda _: True)
    row = family_row(model_type)
    assert row.status == WRONG and "first in the head:" in row.why


def test_a_gradient_that_is_not_the_models_is_found(monkeypatch):
    own = shared_prefix_attention.scaled_dot_product_attention

    def detached(query, key, value, **options):
        return own(query, key.detach(), value, **options)

    monkeypatch.setattr(shared_prefix_attention, "scaled_dot_product_attention", detached)
    row = family_row("llama")
    assert row.status == WRONG and "gradient" in row.why


@pytest.fixture(scope="module")
def windowed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistral")
    write_tiny_model(folder, tiny_config("mistral", 160))
    return build_policy(
        folder, ModelSection(dtype="float32"), LORA, dropout=0.0, seed=1, initial=None, with_reference=False
    )


def test_the_check_leaves_adapter_attention_and_gradients_as_they_were(windowed):
    before = adapter_tensors(windowed)
    check_equality(windowed, groups(), with_gradients=True)
    assert all(torch.equal(one, before[name]) for name, one in adapter_tensors(windowed).items())
    assert windowed.get_base_model().config._attn_implementation == shared_prefix_attention.NAME
    assert all(parameter.grad is None for parameter in windowed.parameters())


def text(num_prompt: int) -> PromptWithAnswers:
    return PromptWithAnswers(prompt_token_ids=tuple(range(3, 3 + num_prompt)), answers=((5, 6, 7), (8, 9)))


def test_a_text_within_the_window_is_made_longer_than_it(windowed, monkeypatch):
    """Otherwise a window that nothing computes would not be seen."""
    report = check_policy(windowed, [text(9), text(5)], 256, limit_s=1000.0)
    assert report.longest_text_tokens > WINDOW and report.gradient_difference is not None
    monkeypatch.setattr(shared_prefix_attention, "AttentionRules", without(window=None))
    with pytest.raises(UserError, match="does not compute the model"):
        check_policy(windowed, [text(9), text(5)], 256, limit_s=1000.0)


def test_a_window_that_no_text_of_the_run_reaches_is_left_alone(windowed):
    assert check_policy(windowed, [text(9), text(5)], WINDOW, limit_s=1000.0).longest_text_tokens == 12


def test_where_time_is_short_the_window_is_still_passed(windowed, monkeypatch):
    asked = []

    def noted(policy, asked_groups, *, with_gradients):
        asked.append((max(len(one.prefix_ids) for one in asked_groups), with_gradients))
        return replace(check_equality(policy, asked_groups, with_gradients=with_gradients), seconds=10.0)

    monkeypatch.setattr(start_check, "check_equality", noted)
    check_policy(windowed, [text(90), text(5)], 256, limit_s=12.0)
    assert asked[0] == (5, True) and asked[1] == (WINDOW + start_check.BEYOND_WINDOW_TOKENS, False)


def test_the_pack_of_the_check_is_no_longer_than_those_of_the_updates(windowed, monkeypatch):
    groups = [
        PrefixGroup(prefix_ids=tuple(range(num)), branches=(Branch(token_ids=(5,), weight=1.0),) * 2)
        for num in (100, 80, 40)
    ]
    assert within(groups, 226) == groups
    cut = within(groups, 166)
    assert cut[0] == groups[0] and sum(group.num_tokens for group in cut) <= 166
    assert [len(group.prefix_ids) for group in cut[1:]] == [40, 20] and cut[1].prefix_ids[-1] == 79

    asked = []

    def noted(policy, asked_groups, *, with_gradients):
        asked.append(sum(group.num_tokens for group in asked_groups))
        return check_equality(policy, asked_groups, with_gradients=with_gradients)

    monkeypatch.setattr(start_check, "check_equality", noted)
    check_policy(windowed, [text(90), text(80), text(80)], 128, limit_s=1000.0, max_pack_tokens=150)
    assert max(asked) <= 150


def test_the_windows_that_count_are_those_shorter_than_the_context():
    config = tiny_config("mistral", 160)
    assert (longest_window(config, 256), longest_window(config, WINDOW)) == (WINDOW, 0)
    assert longest_window(tiny_config("llama", 160), 256) == 0


def test_prompts_are_lengthened_and_shortened_at_their_beginning():
    (group, *_) = groups()
    longer, shorter = lengthened(group, 100), shortened(group, 20)
    assert len(longer.prefix_ids) == 100 and longer.prefix_ids[-len(group.prefix_ids) :] == group.prefix_ids
    assert shorter.prefix_ids == group.prefix_ids[-20:]
    assert lengthened(group, 3) == group


def test_no_dropout_of_the_base_is_left_in_any_part_of_a_configuration():
    config = plain_config(tiny_config("gemma3", 160))
    assert config.get_text_config().attention_dropout == 0.0
    assert plain_config(tiny_config("phi", 160)).resid_pdrop == 0.0


def test_heads_are_told_apart_by_what_they_do(tmp_path):
    from transformers import AutoModelForCausalLM

    found = {}
    for model_type in ("llama", "gemma2", "cohere", "granite", "phi"):
        model = AutoModelForCausalLM.from_config(tiny_config(model_type, 160))
        for parameter in model.parameters():
            parameter.data.normal_(0, 0.2)
        found[model_type] = OutputHead(model).is_plain
    assert found == {"llama": True, "gemma2": False, "cohere": False, "granite": False, "phi": False}


def test_experts_are_counted_and_refused_on_a_cpu():
    mixtral, dense = tiny_config("mixtral", 160), tiny_config("llama", 160)
    assert (num_experts(mixtral), num_experts(dense)) == (4, 0)
    assert "mixture of experts" in engine_refusal(mixtral, on_cpu=True)
    assert engine_refusal(mixtral, on_cpu=False) is None and engine_refusal(dense, on_cpu=True) is None
    qwen = tiny_config("qwen2_moe", 160)
    assert mlp_width(qwen) == 2 * 64 + 64
    assert mlp_width(dense) == 192


def test_a_model_that_reads_images_is_refused_by_the_engine():
    assert "reads images too" in engine_refusal(tiny_config("gemma3", 160), on_cpu=False)


def test_a_model_type_that_transformers_has_no_language_model_for_is_refused():
    assert "no causal language model for 'vit'" in refusal(AutoConfig.for_model("vit"))


@pytest.mark.heavy
def test_the_command_prints_the_table_as_json(tmp_path):
    done = floe("bench", "families", "--only", "mistral,bloom", "--json", home=tmp_path)
    rows = {row["model_type"]: row for row in json.loads(done.stdout)}
    assert rows["mistral"]["status"] == RIGHT and rows["bloom"]["status"] == REFUSED


def test_the_command_refuses_a_name_that_is_no_family(tmp_path):
    done = floe("bench", "families", "--only", "mistrall", home=tmp_path)
    assert done.returncode == 2 and "'mistrall' is not a causal language model type" in done.stderr
