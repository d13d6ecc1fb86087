"""Questions to prompt tokens, with the model's own tokenizer and chat template."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from transformers import AutoTokenizer

from actors import prompts
from actors.data.schemas import TableSchema, read_schema
from cluster.messages import Question
from configs.errors import UserError
from configs.schema import PromptSection


class PromptEncoder:
    """Encodes prompts and answers; schemas are read once per database."""

    def __init__(self, model_dir: Path, databases_dir: Path, settings: PromptSection) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model_dir)
        if self._tokenizer.chat_template is None:
            raise UserError(f"The tokenizer in {model_dir} has no chat template: use an instruct model.")
        self._databases_dir = databases_dir
        self._settings = settings
        self._schema = lru_cache(maxsize=None)(self._read_schema)

    def prompt(self, question: Question) -> tuple[int, ...]:
        chat = prompts.messages(
            question.text, question.evidence, self._schema(question.database_id), self._settings.style
        )
        chat_text = str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))
        text = chat_text + prompts.prefill(self._settings.style)
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer(self, sql: str) -> tuple[int, ...]:
        """Tokens of the answer that the warm start teaches, the end token included."""
        text = prompts.answer_text(sql, self._settings.style)
        return (*self._tokenizer(text, add_special_tokens=False)["input_ids"], self._tokenizer.eos_token_id)

    def _read_schema(self, database_id: str) -> tuple[TableSchema, ...]:
        return read_schema(self._databases_dir / database_id / f"{database_id}.sqlite", self._settings.example_values)
