"""What a prompt style gives (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from floe.actors.databases.schemas import TableSchema


class PromptStyle(Protocol):
    """Says what the model is asked, and in which form it answers. A plug-in needs `messages` and `answer` alone.

    The same arguments must give the same texts in every process: a prompt is made once for all candidates of its
    question, and made again at a resume. A text may have U+FDD0 within what the tokenizer would take for a control
    token: keep it (`json.dumps(..., ensure_ascii=False)`), it is removed later.

    A plug-in may also have `sql_of(self, answer: str) -> str | None`, which takes the SQL from an answer in a form of
    its own; without it floe looks for SQL in thoughts, answer tags and fences (docs/reward_service.md). The answer
    begins with the prefill and includes the stop text that ended it. None means that the answer holds no SQL, and so
    does any exception: whatever a model writes is an answer, never a fault. It runs in the reward workers, in training,
    evaluation, `floe score` and `floe ask`; its time is linear in the text, or a long answer would hold a worker up.
    """

    @property
    def prefill(self) -> str:
        """Start of the answer, which the prompt contains already; empty if left out."""
        ...

    @property
    def stop_texts(self) -> Sequence[str]:
        """Texts that end a completion, in addition to the end token; none if left out."""
        ...

    @property
    def shows_values(self) -> bool:
        """True where `schema` shows comments and values; False if left out.

        Only then are prompt.example_values, prompt.descriptions and prompt.retrieved_values allowed, and is the default
        of `schema` CREATE TABLE statements.
        """
        ...

    @property
    def shows_reads(self) -> bool:
        """True where `answer` uses what a query reads, as it is if left out."""
        ...

    def schema(self, tables: Sequence[TableSchema]) -> str:
        """Return the tables as text; if left out `named_tables` or `created_tables` of floe.plugins.

        Where a prompt is too long, this is called again with fewer values, comments, types and columns.
        """
        ...

    def messages(self, question: str, evidence: str, schema: str) -> Sequence[Mapping[str, str]]:
        """Return the chat, each message with `role` (system, user or assistant) and `content`; the last is the user's.

        `evidence` is external knowledge about the question, empty where there is none.
        """
        ...

    def answer(self, sql: str, reads: str) -> str:
        """Return the answer that the warm start teaches, without the prefill.

        `reads` names the tables and columns of the query in one line; it is empty where the query can't be parsed.
        """
        ...
