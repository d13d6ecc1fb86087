"""Finds the largest form of a prompt that keeps within a budget of tokens (pure)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from floe.actors.databases.schemas import ColumnName, TableSchema
from floe.actors.prompting.trimming import Trimming, dropped_columns, trimmed, with_columns, with_keys

Tables = Sequence[TableSchema]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPrompt:
    """One prompt, and what was trimmed from it. `refused`: even its smallest form, the one held here, is too long."""

    token_ids: tuple[int, ...]
    num_whole_tokens: int  # with nothing trimmed
    trimming: Trimming
    dropped_columns: tuple[ColumnName, ...]
    refused: bool
    tables: tuple[TableSchema, ...] = ()  # as the prompt shows them

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnOrder:
    """An order for dropping columns: `kept` never go; of `others` the last go first. Columns of joins stay."""

    kept: Collection[ColumnName]
    others: Sequence[ColumnName]


def fitted_prompt(
    tables: Tables,
    tokens_of: Callable[[Tables], tuple[int, ...]],
    max_tokens: int | None,
    column_order: Callable[[], ColumnOrder],
) -> EncodedPrompt:
    """Return the first of the trimming's steps that fits; of the last step, the form with the most columns.

    `column_order` is asked for in the last step alone. Without `max_tokens` everything fits.
    """
    tables = tuple(tables)
    whole_ids = tokens_of(tables)

    def fits(token_ids: tuple[int, ...]) -> bool:
        return max_tokens is None or len(token_ids) <= max_tokens

    def encoded(token_ids: tuple[int, ...], trimming: Trimming, left: Tables) -> EncodedPrompt:
        return EncodedPrompt(
            token_ids=token_ids,
            num_whole_tokens=len(whole_ids),
            trimming=trimming,
            dropped_columns=dropped_columns(tables, left),
            refused=not fits(token_ids),
            tables=tuple(left),
        )

    if fits(whole_ids):
        return encoded(whole_ids, Trimming.NONE, tables)
    bare = tables
    for trimming in (Trimming.EXAMPLES, Trimming.DESCRIPTIONS, Trimming.TYPES):
        if (smaller_tables := trimmed(tables, trimming)) == bare:
            continue
        bare = smaller_tables
        token_ids = tokens_of(bare)
        if fits(token_ids):
            return encoded(token_ids, trimming, bare)
    order = column_order()

    def smaller(num_others: int) -> Tables:
        return with_columns(bare, with_keys(bare, {*order.kept, *order.others[:num_others]}))

    fewest = 0 if order.kept else 1  # a prompt without a table asks nothing
    num_others = _most(fewest, len(order.others), lambda number: fits(tokens_of(smaller(number))))
    return encoded(tokens_of(smaller(num_others)), Trimming.COLUMNS, smaller(num_others))


def _most(fewest: int, limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from `fewest` to below `limit` found to fit by halving; `fewest` where none fits."""
    low, high = fewest, max(limit, fewest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
