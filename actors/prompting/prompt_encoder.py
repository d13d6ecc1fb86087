"""Encodes questions as prompt tokens, with the model's own tokenizer and chat template, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoTokenizer

from floe.actors.databases.contained_databases import find_schema
from floe.actors.databases.schemas import ColumnName, TableSchema
from floe.actors.prompting.column_ranking import ranked_columns
from floe.actors.prompting.descriptions import described, read_descriptions
from floe.actors.prompting.plain_text import PlainText
from floe.actors.prompting.prompt_end import PromptEnd, with_answer_start
from floe.actors.prompting.prompt_fitting import ColumnOrder, EncodedPrompt, fitted_prompt
from floe.actors.prompting.prompt_style import PromptStyle
from floe.actors.prompting.styles import style_of
from floe.actors.prompting.trimming import with_matches
from floe.actors.questions.gold_columns import gold_columns, what_is_read
from floe.cluster.databases.places import database_path
from floe.cluster.messages import Question
from floe.configs.errors import UserError
from floe.configs.schema import PromptSection

if TYPE_CHECKING:
    from floe.actors.prompting.value_index import ValueIndex

ColumnsOfGold = Callable[[Sequence[TableSchema]], frozenset[ColumnName]]

MAX_OPEN_INDICES = 128  # each one holds a file open


class PromptEncoder:
    """Encodes prompts and answers; schemas are read once per database.

    Without `max_tokens` nothing is trimmed or refused. `indices_dir` keeps what the search of values needs, for
    settings that ask for it. `plugin_folder` is where the module of a style that is a plug-in is looked for when it is
    not installed.
    """

    def __init__(
        self,
        model_dir: Path,
        databases_dir: Path,
        settings: PromptSection,
        max_tokens: int | None = None,
        indices_dir: Path | None = None,
        plugin_folder: Path | None = None,
    ) -> None:
        self._style = style_of(settings, plugin_folder)
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
        if self._tokenizer.chat_template is None:
            raise UserError(f"The tokenizer in {model_dir} has no chat template: use an instruct model.")
        self._plain = PlainText(self._tokenizer)
        self._databases_dir = databases_dir
        self._settings = settings
        self._max_tokens = max_tokens
        self._indices_dir = indices_dir
        self._schema = lru_cache(maxsize=None)(self._read_schema)
        self._value_index = lru_cache(maxsize=MAX_OPEN_INDICES)(self._open_value_index)
        self._unmatched_descriptions: list[str] = []
        self._left_out: list[str] = []

    @cached_property
    def answer_start(self) -> str:
        """The part of the answer that ends each prompt; it is put back in front of a completion before that is read."""
        return self._rendered(self._style.messages("", "", "")).answer_start

    @property
    def unmatched_descriptions(self) -> tuple[str, ...]:
        """Descriptions read so far that match no table or column of their database."""
        return tuple(self._unmatched_descriptions)

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence for each table or column of the databases read so far that can't be read here."""
        return tuple(self._left_out)

    def prompt(self, question: Question) -> tuple[int, ...]:
        """Return the tokens of a prompt for evaluation. Raises ValueError for a prompt that was refused."""
        return _accepted(self.encoded(question), question)

    def training_prompt(self, question: Question) -> tuple[int, ...]:
        """Return the tokens of a prompt for training. Raises ValueError for a prompt that was refused."""
        return _accepted(self.encoded_for_training(question), question)

    def encoded(self, question: Question) -> EncodedPrompt:
        """Return the prompt for evaluation, made without the gold; columns with values that the question names stay."""
        return self._encode(question.database_id, question.text, question.evidence)

    def encoded_for_training(self, question: Question) -> EncodedPrompt:
        """Return the prompt for training: that of evaluation, or with `prompt.trim_keeps_gold` with the gold's columns.

        They differ only where columns have to go.
        """
        if not self._settings.trim_keeps_gold:
            return self.encoded(question)
        of_gold = partial(gold_columns, question.gold_sql)
        return self._encode(question.database_id, question.text, question.evidence, of_gold)

    def lacks_gold(self, question: Question, prompt: EncodedPrompt) -> bool:
        """Return whether the prompt lost a column that one of the golds may read."""
        if not prompt.dropped_columns:
            return False
        used = gold_columns(question.gold_sql, self._schema(question.database_id))
        return not used.isdisjoint(prompt.dropped_columns)

    def messages(self, question: Question) -> list[dict[str, str]]:
        """Return the chat of a prompt for evaluation, for a server that puts its own template around it.

        It has what the prompt of `encoded` shows, without the start of the answer. Raises ValueError for a prompt that
        was refused.
        """
        encoded = self.encoded(question)
        _accepted(encoded, question)
        evidence = question.evidence if self._settings.evidence else ""
        chat = self._style.messages(question.text, evidence, self._style.schema(encoded.tables))
        return [{"role": one["role"], "content": one["content"]} for one in chat]

    def sent_text(self, question: Question) -> str:
        """Return a prompt for evaluation as text, for a server that encodes it with the model's tokenizer.

        A begin token that the tokenizer puts in front of every text is left to the server. Raises ValueError for a
        prompt that was refused.
        """
        token_ids = self.prompt(question)
        text = self.text(token_ids)
        begin = self._tokenizer.bos_token
        if begin and text.startswith(begin) and self._tokenizer(text)["input_ids"][:2] == [token_ids[0]] * 2:
            return text[len(begin) :]
        return text

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """Texts that end an answer, in addition to the end token."""
        return tuple(self._style.stop_texts)

    def answer(self, sql: str) -> tuple[int, ...]:
        """Return the tokens of the answer that the warm start teaches, the end token included."""
        guarded = self._plain.guarded
        text = self._style.answer(guarded(sql), guarded(what_is_read(sql)) if self._style.shows_reads else "")
        return (*self._plain.token_ids(text), self._tokenizer.eos_token_id)

    def completion(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer that follows a prompt of this encoder, the end token included."""
        return (*self._plain.token_ids(self._plain.guarded(text)), self._tokenizer.eos_token_id)

    @property
    def style(self) -> PromptStyle:
        """The run's prompt style."""
        return self._style

    def text(self, token_ids: tuple[int, ...]) -> str:
        """Return what the model sees, special tokens included."""
        text = self._tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def _encode(
        self, database_id: str, text: str, evidence: str, columns_of_gold: ColumnsOfGold | None = None
    ) -> EncodedPrompt:
        shown_evidence = evidence if self._settings.evidence else ""
        asked = f"{shown_evidence}\n{text}"
        hits = self._hits(database_id, asked)
        whole = with_matches(self._schema(database_id), hits)

        guarded, style = self._plain.guarded, self._style

        def tokens_of(tables: Sequence[TableSchema]) -> tuple[int, ...]:
            schema = guarded(style.schema(tables))
            chat = style.messages(guarded(text), guarded(shown_evidence), schema)
            return self._plain.token_ids(self._rendered(chat).text)

        def column_order() -> ColumnOrder:
            named = frozenset(name for name, _ in hits)
            kept = named if columns_of_gold is None else columns_of_gold(whole)
            others = [name for name in ranked_columns(whole, asked, named) if name not in kept]
            return ColumnOrder(kept=kept, others=others)

        return fitted_prompt(whole, tokens_of, self._max_tokens, column_order)

    def _rendered(self, chat: Sequence[Mapping[str, str]]) -> PromptEnd:
        rendered = str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        return with_answer_start(rendered, self._style.prefill)

    def _hits(self, database_id: str, asked: str) -> list[tuple[ColumnName, str]]:
        if self._settings.retrieved_values == 0:
            return []
        return self._value_index(database_id).search(asked, self._settings.retrieved_values)

    def _read_schema(self, database_id: str) -> tuple[TableSchema, ...]:
        database = self._database(database_id)
        tables, left_out = find_schema(database, self._settings.example_values)
        self._left_out += left_out
        if self._settings.descriptions == "none":
            return tables
        descriptions = read_descriptions(database, tables)
        self._unmatched_descriptions += descriptions.unmatched
        return described(tables, descriptions, values=self._settings.descriptions == "values")

    def _open_value_index(self, database_id: str) -> ValueIndex:
        if self._indices_dir is None:
            raise ValueError("prompt.retrieved_values is set, but there is no folder for the indices")
        from floe.actors.prompting.value_index import value_index  # its libraries take a second to load

        index = value_index(self._database(database_id), self._indices_dir)
        self._left_out += [one for one in index.left_out if one not in self._left_out]
        return index

    def _database(self, database_id: str) -> Path:
        return database_path(self._databases_dir, database_id)


def _accepted(encoded: EncodedPrompt, question: Question) -> tuple[int, ...]:
    """Return the prompt unless it was refused: a refused one must not reach the engine and cramp the completion."""
    if encoded.refused:
        raise ValueError(f"the prompt of question {question.question_id} has {encoded.num_tokens} tokens, too many")
    return encoded.token_ids
