"""Leaves out the questions whose prompts don't fit, and counts those trimmed or refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.prompting.prompt_fitting import EncodedPrompt
from floe.actors.questions.question_sets import SPLITS, QuestionSets
from floe.cluster.messages import Question
from floe.cluster.questions.mixed import check_shares
from floe.cluster.questions.prompt_lengths import budget_of
from floe.cluster.terminal.progress import Progress
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig

NUM_SAMPLED = 400  # questions whose prompts are made to find a long one


def encoder_of_run(config: RunConfig, model_dir: Path, databases_dir: Path) -> PromptEncoder:
    """Return the encoder of a run's prompts, within the tokens that its context leaves them."""
    return PromptEncoder(
        model_dir,
        databases_dir,
        config.prompt,
        max_tokens=config.max_prompt_tokens,
        indices_dir=config.run.home_dir / "value_indices",
        plugin_folder=config.run.plugin_folder,
    )


def longest_prompt(encoder: PromptEncoder, questions: Sequence[Question]) -> Question:
    """Return the training question with the longest prompt, from an even sample where there are many."""
    sampled = questions[:: max(1, len(questions) // NUM_SAMPLED)]
    return max(sampled, key=lambda one: len(encoder.training_prompt(one)))


def encoding_of_split(encoder: PromptEncoder, split: str) -> Callable[[Question], EncodedPrompt]:
    """Return the split's encoding; only training questions may be trimmed by their gold (`prompt.trim_keeps_gold`)."""
    return encoder.encoded_for_training if split == "train" else encoder.encoded


def fitting_questions(
    sets: QuestionSets, encoder: PromptEncoder, config: RunConfig, progress: Progress
) -> QuestionSets:
    """Return questions whose prompt and longest completion fit the context. Raises UserError when too few are left."""
    kept = {name: _fitting(name, sets.split(name), encoder, config, progress) for name in SPLITS}
    for sentence in encoder.left_out:
        progress.note(sentence)
    if unmatched := encoder.unmatched_descriptions:
        progress.note(f"{len(unmatched)} column descriptions are not used, the first: {unmatched[0]}")
    if len(kept["train"]) < config.rollout.questions_per_step:
        raise UserError(
            f"There are {len(kept['train'])} training questions, a step takes {config.rollout.questions_per_step}: "
            "lower rollout.questions_per_step."
        )
    check_shares(config, kept["train"])
    return replace(sets, train=kept["train"], tune=kept["tune"], test=kept["test"])


def _fitting(
    split: str, questions: tuple[Question, ...], encoder: PromptEncoder, config: RunConfig, progress: Progress
) -> tuple[Question, ...]:
    encode = encoding_of_split(encoder, split)
    encoded = [encode(question) for question in questions]
    fitting = [(question, prompt) for question, prompt in zip(questions, encoded, strict=True) if not prompt.refused]
    if split == "train" and config.evaluation.split == "train":
        fitting = [pair for pair in fitting if not encoder.encoded(pair[0]).refused]
    kept = tuple(
        question for question, prompt in fitting if split != "train" or not encoder.lacks_gold(question, prompt)
    )
    max_tokens = config.max_prompt_tokens
    progress.note(f"{split}: {len(kept)} questions, {budget_of(encoded).sentence(max_tokens)}")
    if num_lost := len(fitting) - len(kept):
        progress.note(
            f"{split}: {num_lost} questions left out, whose prompts lost a column that their gold reads "
            "(prompt.trim_keeps_gold=true keeps such columns in training alone)"
        )
    if not kept:
        lost = "loses a column of its gold at" if fitting else "exceeds"
        raise UserError(
            f"Every prompt of the split '{split}' {lost} {max_tokens} tokens: raise model.max_context_tokens."
        )
    return kept


def shows_its_gold(question: Question, encoder: PromptEncoder) -> bool:
    """Return whether the training prompt fits and shows what the golds read; others would teach to guess names."""
    prompt = encoder.encoded_for_training(question)
    return not prompt.refused and not encoder.lacks_gold(question, prompt)
