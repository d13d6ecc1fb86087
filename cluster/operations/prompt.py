"""`floe prompt`: the text that the model sees of a question, or the lengths of the prompts of all questions."""

from __future__ import annotations

from rich.table import Table

from floe.actors.prompting.prompt_encoder import PromptEncoder
from floe.actors.prompting.prompt_fitting import EncodedPrompt
from floe.actors.questions.question_sets import SPLITS, QuestionSets
from floe.actors.sources.run_sets import sets_of_run
from floe.cluster.messages import Question
from floe.cluster.models.model_folder import model_folder
from floe.cluster.questions.fitting import encoder_of_run, encoding_of_split
from floe.cluster.questions.prompt_lengths import PromptBudget, budget_of
from floe.cluster.terminal.progress import make_console
from floe.cluster.terminal.shown_text import say
from floe.configs.errors import UserError
from floe.configs.schema import RunConfig


def show_prompt(config: RunConfig, question_id: str) -> None:
    """Print the prompt's text, decoded from its tokens, on stdout, and its facts on stderr. Raises UserError."""
    sets, encoder = _set_up(config)
    split, question = _find(sets, question_id)
    prompt = encoding_of_split(encoder, split)(question)
    say(encoder.text(prompt.token_ids))
    say(_facts(split, prompt, config.max_prompt_tokens), to_stderr=True)


def summarise_prompts(config: RunConfig, *, to_stderr: bool = False) -> None:
    """Print a table of the prompts' lengths by split, on stdout unless told otherwise. Raises UserError."""
    sets, encoder = _set_up(config)
    encoded = {split: [encoding_of_split(encoder, split)(one) for one in sets.split(split)] for split in SPLITS}
    rows = {split: budget_of(prompts) for split, prompts in encoded.items()}
    rows["all"] = budget_of(prompt for prompts in encoded.values() for prompt in prompts)
    make_console(stderr=to_stderr).print(_table(rows, config.max_prompt_tokens))
    for line in (*encoder.left_out, *encoder.unmatched_descriptions):
        say(f"not used: {line}", to_stderr=True)


def _set_up(config: RunConfig) -> tuple[QuestionSets, PromptEncoder]:
    demo_dir = config.run.home_dir / "demo"
    sets = sets_of_run(config)
    model_dir = model_folder(config, demo_dir, weights=False)
    return sets, encoder_of_run(config, model_dir, sets.databases_dir)


def _find(sets: QuestionSets, question_id: str) -> tuple[str, Question]:
    for split in SPLITS:
        for question in sets.split(split):
            if question.question_id == question_id:
                return split, question
    numbers = ", ".join(f"{split} has {len(sets.split(split))}" for split in SPLITS)
    raise UserError(
        f"There is no question '{question_id}' ({numbers}; for instance '{sets.train[0].question_id}'): "
        "give a question_id of the questions file, or the index of a question that has none."
    )


def _facts(split: str, prompt: EncodedPrompt, max_tokens: int) -> str:
    trimmed = f"trimmed from {prompt.num_whole_tokens:,} ({prompt.trimming})"
    facts = [
        f"{prompt.num_tokens:,} tokens of {max_tokens:,}",
        f"split {split}",
        trimmed if prompt.num_tokens != prompt.num_whole_tokens else "whole",
    ]
    if prompt.dropped_columns:
        names = ", ".join(f"{name.table}.{name.column}" for name in prompt.dropped_columns)
        facts.append(f"without {len(prompt.dropped_columns)} columns: {names}")
    if prompt.refused:
        facts.append("REFUSED: this smallest form exceeds the budget too")
    return "; ".join(facts)


def _table(rows: dict[str, PromptBudget], max_tokens: int) -> Table:
    table = Table(title=f"Tokens of the prompts, budget {max_tokens:,}", title_justify="left")
    for heading in ("split", "questions", "median", "p95", "longest", "longest sent", "trimmed", "refused"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    for name, row in rows.items():
        lengths = (row.num_questions, row.median, row.p95, row.longest, row.longest_sent)
        shares = (row.trimmed_share, row.refused_share)
        table.add_row(name, *(f"{number:,}" for number in lengths), *(f"{100 * share:.1f} %" for share in shares))
    return table
