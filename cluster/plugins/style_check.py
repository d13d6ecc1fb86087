"""Tries a prompt style that is a plug-in: asks a question, and takes the SQL from the answer that would be taught."""

from __future__ import annotations

from pathlib import Path

from floe.actors.databases.schemas import Column, TableSchema
from floe.actors.prompting.prompt_style import PromptStyle
from floe.actors.prompting.styles import style_of
from floe.configs.errors import ConfigError, UserError
from floe.configs.schema import PromptSection
from floe.reward_service.sql_text.own_extraction import Extraction, NoAnswer, extraction_of

QUESTION, SQL, READS = "How many singers are there", "SELECT COUNT(*) FROM singer", "singer"
TABLES = (
    TableSchema(
        name="singer",
        columns=(Column(name="singer_id", type="INTEGER"), Column(name="name", type="TEXT", examples=("'Joe'",))),
        primary_key=("singer_id",),
        foreign_keys=(),
    ),
)
SHOWN_CHARACTERS = 200


def check_style(prompt: PromptSection, plugin_folder: Path | None) -> None:
    """Raise ConfigError where the plug-in asks no question, or teaches answers that hold no SQL for it."""
    who = f"prompt.style is {prompt.style!r}"
    try:
        style = style_of(prompt, plugin_folder)
        _check_values(prompt, style, who)
        chats = [_chat(style) for _ in range(2)]
        answer = style.answer(SQL, READS)
    except UserError as fault:
        raise ConfigError(str(fault)) from fault
    if QUESTION not in chats[0]:
        raise ConfigError(f"{who}, whose messages leave out the question: put it into one of them.")
    if chats[0] != chats[1]:
        raise ConfigError(
            f"{who}, whose messages differ between two calls with the same question: make them of the arguments alone, "
            "since a resume makes each prompt again."
        )
    extraction = extraction_of(prompt, plugin_folder)
    for text in dict.fromkeys((answer, _until_stop(answer, style))):
        _check_round_trip(style.prefill + text, extraction, who)


def _check_values(prompt: PromptSection, style: PromptStyle, who: str) -> None:
    for field, nothing in (("example_values", 0), ("descriptions", "none"), ("retrieved_values", 0)):
        value = getattr(prompt, field)
        if value != nothing and not style.shows_values:
            raise ConfigError(
                f"{who}, which shows no values, but prompt.{field} is {value}: leave it out, or set shows_values = "
                "True in the style."
            )


def _chat(style: PromptStyle) -> str:
    return "\n".join(one["content"] for one in style.messages(QUESTION, "", style.schema(TABLES)))


def _until_stop(answer: str, style: PromptStyle) -> str:
    """Return the answer as far as it would be generated: to the end of the stop text that comes first."""
    ends = [place + len(one) for one in style.stop_texts if (place := answer.find(one)) >= 0]
    return answer[: min(ends)] if ends else answer


def _check_round_trip(completion: str, extraction: Extraction, who: str) -> None:
    try:
        found = extraction(completion)
    except NoAnswer as why:
        raise ConfigError(
            f"{who}, which teaches the answer {_shown(completion)}, but {why}: correct the style."
        ) from why
    if found != SQL:
        taken = "no SQL is" if found is None else f"{_shown(found)} is"
        raise ConfigError(
            f"{who}, which for {SQL!r} teaches the answer {_shown(completion)}, from which {taken} taken: let sql_of "
            "return the query of the style's own answers, up to its stop texts too."
        )


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 1]}…"
