"""One family's row of the table: right, refused, without anything to adapt, or impossible to make tiny."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig

from floe.cluster.bench.families.tiny_families import WINDOW, tiny_config, write_tiny_model
from floe.configs.errors import UserError, first_line
from floe.configs.model_families import engine_refusal
from floe.configs.schema import ModelSection
from floe.configs.sections.learning_sections import ADAPTABLE, LoraSection
from floe.learner.equality.equality_check import check_equality
from floe.learner.families.refusals import refusal
from floe.learner.packing.packs import Branch, PrefixGroup
from floe.learner.policy.policy import build_policy

VOCABULARY = 160
RIGHT, REFUSED, NO_MODULE, NOT_MADE, BROKEN, WRONG = "right", "refused", "no module", "not made", "broken", "WRONG"
# Prompt and answers in tokens: longer than the window before the answers, across it, and a group of one.
SHAPES = ((WINDOW + 20, (7, WINDOW + 9, 3)), (WINDOW - 6, (WINDOW + 1, 12)), (17, (9,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """The learner's results on one family; differences are to the model's own forward in float32."""

    model_type: str
    status: str
    mean_difference: float | None = None  # of a token's log-probability, in nats
    max_difference: float | None = None
    gradient_difference: float | None = None  # of the gradients of A and B, relative to the norm
    trained_mismatch: float | None = None  # of engine and learner in a short run, nats per token
    modules: tuple[str, ...] = ()  # modules that adapters wrap
    why: str = ""


def family_row(model_type: str, check: Callable[..., Any] = check_equality) -> FamilyRow:
    """Make a tiny model of the family, and compare the learner's way with its own."""
    try:
        config = tiny_config(model_type, VOCABULARY)
    except Exception as fault:  # a family's class may raise anything for sizes that it does not accept
        if why := refusal(CONFIG_MAPPING[model_type]()):
            return FamilyRow(model_type=model_type, status=REFUSED, why=why)
        return FamilyRow(model_type=model_type, status=NOT_MADE, why=_kind_and_words(fault))
    if why := refusal(config):
        return FamilyRow(model_type=model_type, status=REFUSED, why=why)
    with TemporaryDirectory(prefix="floe-family-") as name:
        folder = Path(name)
        try:
            write_tiny_model(folder, config)
        except Exception as fault:  # the same of its weights
            return FamilyRow(model_type=model_type, status=NOT_MADE, why=_kind_and_words(fault))
        return _compared(model_type, folder, check)


def _compared(model_type: str, folder: Path, check: Callable[..., Any]) -> FamilyRow:
    modules = adaptable_modules(folder)
    if not modules:
        return FamilyRow(model_type=model_type, status=NO_MODULE, why="floe adapts none of its linear layers")
    lora = LoraSection(rank=8, alpha=16, target_modules=modules)
    try:
        policy = build_policy(
            folder, ModelSection(dtype="float32"), lora, dropout=0.0, seed=1, initial=None, with_reference=False
        )
        policy.train()
        report = check(policy, groups(), with_gradients=True)
    except UserError as refused:
        return FamilyRow(model_type=model_type, status=WRONG, modules=modules, why=str(refused))
    except Exception as fault:  # a family that the learner's way breaks: it would end a run at its start
        return FamilyRow(model_type=model_type, status=BROKEN, modules=modules, why=_kind_and_words(fault))
    return FamilyRow(
        model_type=model_type,
        status=RIGHT,
        mean_difference=report.mean_difference,
        max_difference=report.max_difference,
        gradient_difference=report.gradient_difference,
        modules=modules,
        why=engine_refusal(AutoConfig.from_pretrained(folder), on_cpu=False) or "",
    )


def adaptable_modules(folder: Path) -> tuple[str, ...]:
    """Return those of ADAPTABLE that name linear layers of the model."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    leaves = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return tuple(name for name in ADAPTABLE if name in leaves)


def groups() -> Sequence[PrefixGroup]:
    """Return random tokens in the shapes of SHAPES."""
    rng = random.Random(1)

    def tokens(number: int) -> tuple[int, ...]:
        return tuple(rng.randrange(3, VOCABULARY) for _ in range(number))

    return [
        PrefixGroup(
            prefix_ids=tokens(num_prompt),
            branches=tuple(Branch(token_ids=tokens(number), weight=1.0) for number in answers),
        )
        for num_prompt, answers in SHAPES
    ]


def _kind_and_words(fault: Exception) -> str:
    kind, said = type(fault).__name__, first_line(fault)
    return kind if said == kind else f"{kind}: {said}"
