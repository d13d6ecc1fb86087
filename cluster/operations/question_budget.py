"""Leaves out the questions whose prompts don't fit, and says how many."""

from __future__ import annotations

from dataclasses import replace

from actors.data.question_sets import SPLITS, QuestionSets
from actors.prompt_encoder import PromptEncoder
from cluster.reports.progress import Progress
from configs.errors import UserError
from configs.schema import RunConfig


def fitting_questions(
    sets: QuestionSets, encoder: PromptEncoder, config: RunConfig, progress: Progress
) -> QuestionSets:
    """The questions whose prompt and longest completion fit the context. Raises UserError when too few are left."""
    budget = config.model.max_context_tokens - config.rollout.max_new_tokens
    kept = {name: tuple(q for q in sets.split(name) if len(encoder.prompt(q)) <= budget) for name in SPLITS}
    for name, questions in kept.items():
        num_left_out = len(sets.split(name)) - len(questions)
        left_out = f", {num_left_out} left out with prompts over {budget} tokens" if num_left_out else ""
        progress.note(f"{name}: {len(questions)} questions{left_out}")
        if not questions:
            raise UserError(
                f"Every prompt of the split '{name}' exceeds {budget} tokens: raise model.max_context_tokens."
            )
    if len(kept["train"]) < config.rollout.questions_per_step:
        raise UserError(
            f"There are {len(kept['train'])} training questions, a step takes {config.rollout.questions_per_step}: "
            "lower rollout.questions_per_step."
        )
    return replace(sets, train=kept["train"], tune=kept["tune"], test=kept["test"])
