"""Model families of a user's own: a model that floe refuses or computes wrongly is made right, a wrong one is found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from floe.cluster.bench.families.tiny_families import SIZES, write_tiny_model
from floe.cluster.memory_plan.shapes.model_config import count
from floe.cluster.messages import PromptWithAnswers
from floe.cluster.plugins.checks import check_plugins
from floe.cluster.preflight.finding import Level
from floe.cluster.preflight.model_files import model_config
from floe.configs.errors import ConfigError, UserError
from floe.configs.files.loading import load_config
from floe.configs.sections.learning_sections import LoraSection
from floe.learner.equality.start_check import check_policy
from floe.learner.family_plugin import family_of
from floe.learner.policy.policy import build_policy

# An architecture whose own attention caps its scores, without a word of it to transformers.
MODULE = """
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb, repeat_kv

from floe.plugins import AttentionRules, ModelFamily

CAP = 2.0


class QuirkyConfig(LlamaConfig):
    model_type = "quirky"


def capped(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    key, value = (repeat_kv(one, module.num_key_value_groups) for one in (key, value))
    scores = torch.tanh(query @ key.transpose(2, 3) * scaling / CAP) * CAP
    if attention_mask is not None:
        scores = scores + attention_mask
    return (scores.softmax(dim=-1) @ value).transpose(1, 2), None


class QuirkyAttention(LlamaAttention):
    def forward(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        of_heads = [one(hidden_states).view(shape).transpose(1, 2) for one in (self.q_proj, self.k_proj, self.v_proj)]
        query, key = apply_rotary_pos_emb(of_heads[0], of_heads[1], *position_embeddings)
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, capped)
        found, _ = attention(self, query, key, of_heads[2], attention_mask, scaling=self.scaling, **kwargs)
        return self.o_proj(found.reshape(*hidden_states.shape[:-1], -1)), None


class QuirkyForCausalLM(LlamaForCausalLM):
    config_class = QuirkyConfig
    _supports_attention_backend = False

    def __init__(self, config):
        super().__init__(config)
        for number, layer in enumerate(self.model.layers):
            layer.self_attn = QuirkyAttention(config, number)
        self.post_init()


AutoConfig.register("quirky", QuirkyConfig, exist_ok=True)
AutoModelForCausalLM.register(QuirkyConfig, QuirkyForCausalLM, exist_ok=True)


class Trusting(ModelFamily):
    def refusal(self, config):
        return None if config.model_type == "quirky" else super().refusal(config)


class Quirky(Trusting):
    def __init__(self, cap=CAP):
        self.cap = cap

    def attention(self, layer, rules, scaling):
        return AttentionRules(window=rules.window, score_cap=self.cap), scaling


class Slow(Quirky):
    def attention(self, layer, rules, scaling):
        rules, scaling = super().attention(layer, rules, scaling)
        return rules, scaling * 0.5


class OwnHead(Quirky):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def logits(self, causal_lm, hidden):
        return self.factor * hidden @ causal_lm.get_output_embeddings().weight.t()


class Refuses(ModelFamily):
    def engine_refusal(self, config, *, on_cpu):
        return "its scores are capped in no kernel"


class Raises(ModelFamily):
    def refusal(self, config):
        return config.not_there


class NoText(ModelFamily):
    def refusal(self, config):
        return False


class Derived:
    refusal = engine_refusal = attention = logits = None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder with the module, and a tiny model of its architecture in `model`."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "their_family.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path, str(folder)])
        from their_family import QuirkyConfig

        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
        config = QuirkyConfig(**{one: SIZES[one] for one in names}, vocab_size=160, head_dim=32)
        write_tiny_model(folder / "model", config)
        yield folder
    sys.modules.pop("their_family", None)


def configured(folder: Path, family: str, *overrides: str):
    return load_config(
        None, [f"model.family={family}", f"model.path={folder}/model", "model.dtype=float32", *overrides]
    )


def checked(folder: Path, family: str, *overrides: str):
    config = configured(folder, family, *overrides)
    policy = build_policy(
        folder / "model",
        config.model,
        LoraSection(rank=8, alpha=16),
        dropout=0.0,
        seed=1,
        initial=None,
        with_reference=False,
        gradient_checkpointing=True,
        family=None if family == "auto" else family_of(config.model, config.run.plugin_folder),
    )
    policy.train()
    texts = [
        PromptWithAnswers(prompt_token_ids=tuple(range(3, 3 + num)), answers=((5, 6, 7), (8, 9))) for num in (30, 9)
    ]
    return check_policy(policy, texts, 256, limit_s=1000.0)


def test_floe_alone_refuses_the_model(folder):
    with pytest.raises(UserError, match="the attention of 'quirky' is its own"):
        checked(folder, "auto")


def test_what_transformers_is_not_told_is_found_by_the_check(folder):
    with pytest.raises(UserError, match=r"compute the model .*\(quirky\).*: correct the plug-in of model\.family"):
        checked(folder, "their_family:Trusting")


def test_a_plugin_that_tells_it_makes_the_model_right(folder):
    assert check_plugins(configured(folder, "their_family:Quirky")) == [
        f"model.family their_family:Quirky from {folder}/their_family.py"
    ]
    report = checked(folder, "their_family:Quirky")
    assert report.mean_difference < 1e-4 and report.gradient_difference < 1e-3


@pytest.mark.parametrize(
    ("family", "overrides"),
    [("their_family:Quirky", ["model.family_arguments.cap=3.0"]), ("their_family:Slow", [])],
)
def test_a_plugin_that_tells_it_wrongly_is_found(folder, family, overrides):
    with pytest.raises(UserError, match=r"first in model\.layers\.0:"):
        checked(folder, family, *overrides)


def test_logits_of_a_plugin_are_the_heads(folder):
    report = checked(folder, "their_family:OwnHead")
    assert report.mean_difference < 1e-4 and report.gradient_difference < 1e-3
    with pytest.raises(UserError, match="first in the head:"):
        checked(folder, "their_family:OwnHead", "model.family_arguments.factor=1.1")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("auto", "'quirky' is its own"),
        ("their_family:Refuses", "'quirky' is its own"),
        ("their_family:Quirky", ""),
    ],
)
def test_doctor_and_the_start_of_a_run_ask_the_family(folder, family, said):
    config = configured(folder, family)
    found = model_config(folder / "model", config.model, plugin_folder=config.run.plugin_folder)
    assert (found.level is Level.FAULT) == bool(said) and said in found.what


def test_a_plugin_may_refuse_the_engine_and_lets_the_plan_count_the_model(folder):
    from transformers import AutoConfig, LlamaConfig

    config = configured(folder, "their_family:Refuses")
    LlamaConfig().save_pretrained(folder / "llama")
    found = model_config(folder / "llama", config.model, plugin_folder=config.run.plugin_folder)
    assert found.level is Level.FAULT and "capped in no kernel" in found.what
    quirky = AutoConfig.from_pretrained(folder / "model")
    with pytest.raises(UserError, match="can't be trained"):
        count("x", quirky)
    assert count("x", quirky, family_of(configured(folder, "their_family:Quirky").model, folder)).num_layers == 2


@pytest.mark.parametrize(("name", "said"), [("Raises", r"raised AttributeError .*:\d+"), ("NoText", "returned a bool")])
def test_a_fault_of_the_plugin_is_said_in_one_sentence(folder, name, said):
    config = configured(folder, f"their_family:{name}")
    with pytest.raises(UserError, match=f"^model.family is of class {name}, whose refusal.* {said}"):
        model_config(folder / "model", config.model, plugin_folder=config.run.plugin_folder)


def test_what_is_no_family_is_refused(folder):
    with pytest.raises(ConfigError, match=r"is not derived from floe\.plugins\.ModelFamily"):
        check_plugins(configured(folder, "their_family:Derived"))
    with pytest.raises(ConfigError, match=r"model\.family_arguments has 'cap', but model\.family is 'auto'"):
        configured(folder, "auto", "model.family_arguments.cap=1")
