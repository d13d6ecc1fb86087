"""The reference recipe: its values, the page that compares them, and what it takes on cards of 24 and 40 GB."""

from __future__ import annotations

import re
from collections.abc import Iterator

from floe.cluster.memory_plan.card_table import GIB, card_rows
from floe.cluster.memory_plan.of_machine import basis_of
from floe.cluster.memory_plan.overheads import Overheads
from floe.cluster.memory_plan.shapes.model_config import shape_of
from floe.configs.files.loading import load_config
from floe.configs.files.yaml_text import read_yaml
from floe.configs.schema import RunConfig
from tests.command_line import REPOSITORY

ROW = re.compile(r"\| `(?P<key>\w+\.\w+)` \| (?P<recipe>[^|]+) \| [^|]+ \| (?P<default>[^|]+) \|")


def recipe(*changes: str) -> RunConfig:
    return load_config("arctic_3b_recipe", ["data.questions=q.json", "data.databases=d", *changes])


def test_it_is_the_recipe_to_the_letter():
    config = recipe()
    run, lora, learner, algorithm, rollout = (
        getattr(config, one) for one in ("run", "lora", "learner", "algorithm", "rollout")
    )
    assert (config.model.path, config.model.dtype) == ("Qwen/Qwen2.5-Coder-3B-Instruct", "bfloat16")
    assert (lora.rank, lora.alpha, lora.dropout) == (16, 32, 0.05)
    assert set(lora.target_modules) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    assert (rollout.group_size, rollout.temperature, rollout.questions_per_step) == (16, 0.8, 16)
    assert (algorithm.kl_coefficient, algorithm.clip_low, algorithm.clip_high) == (0.001, 0.2, 0.2)
    assert (algorithm.loss, algorithm.advantage_scale) == ("grpo", "std")
    assert not config.warm_start.enabled  # so that the KL term's reference is the base
    assert (learner.learning_rate, learner.schedule, learner.warmup_share) == (1e-6, "cosine", 0.1)
    assert (learner.adam_betas, learner.weight_decay, learner.max_grad_norm) == ((0.9, 0.999), 0.01, 1.0)
    assert (learner.decided_zero_stage("bfloat16"), learner.offload_optimizer) == (2, True)
    assert (learner.gradient_checkpointing, learner.max_pack_groups, learner.updates_per_batch) == (True, 1, 1)
    assert (run.num_epochs, run.known_num_steps) == (3, None)


def compared() -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the page's table: key, the recipe's value, floe's default."""
    for line in (REPOSITORY / "docs" / "recipe.md").read_text().splitlines():
        if found := ROW.match(line):
            yield found["key"], found["recipe"], found["default"]


def value_of(config: RunConfig, key: str) -> object:
    section, _, field = key.partition(".")
    value = getattr(getattr(config, section), field)
    return list(value) if isinstance(value, tuple) else value


def test_the_pages_table_has_the_values_of_the_recipe_and_of_the_schema():
    rows = list(compared())
    assert len(rows) > 20
    for key, of_recipe, default in rows:
        assert read_yaml(of_recipe) == value_of(recipe(), key), key
        assert read_yaml(default) == value_of(RunConfig(), key), key


def test_the_page_names_every_value_in_which_the_recipe_is_not_the_default():
    named = {key for key, _, _ in compared()}
    for section in ("lora", "learner", "algorithm"):
        changed = {
            f"{section}.{field}"
            for field in type(getattr(recipe(), section)).model_fields
            if value_of(recipe(), f"{section}.{field}") != value_of(RunConfig(), f"{section}.{field}")
        }
        assert changed - {"learner.num_gpus", "learner.max_pack_tokens"} <= named


def test_the_page_says_what_it_takes_on_cards_of_24_and_40_gb():
    config = recipe()
    basis = basis_of(config, Overheads(), None)
    page = (REPOSITORY / "docs" / "recipe.md").read_text()
    rows = {one.card: one for one in card_rows(config, shape_of(config), basis)}
    for row in (rows["24 GB"], rows["40 GB"]):
        assert row.colocation == "resident" and row.margin_bytes > 0 and row.changes is None
        sizes = " | ".join(f"{one / GIB:.2f}" for one in (row.peak_bytes, row.margin_bytes))
        assert f"| {row.card} | {row.usable_bytes / GIB:.2f} | resident | {sizes} |" in page
