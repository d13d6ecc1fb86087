"""Rewrites a query in other words, or with one thing changed (sqlglot; pure). Its result shows what it is worth."""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from floe.cluster.databases.dialect import DIALECT

_OTHER_COMPARISON: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.GT: exp.GTE,
    exp.GTE: exp.GT,
    exp.LT: exp.LTE,
    exp.LTE: exp.LT,
    exp.And: exp.Or,
    exp.Or: exp.And,
}
_OTHER_AGGREGATE: dict[type[exp.Expr], type[exp.Func]] = {
    exp.Max: exp.Min,
    exp.Min: exp.Max,
    exp.Sum: exp.Avg,
    exp.Avg: exp.Sum,
}


def rewritten(sql: str) -> list[str]:
    """Return the query as a subquery and as a CTE."""
    inner = sql.strip().rstrip(";")
    return [f"SELECT * FROM ({inner}) AS answer", f"WITH answer AS ({inner}) SELECT * FROM answer"]


def mutated(sql: str) -> list[str]:
    """Return one query for each thing that can be changed; none for a query that sqlglot can't read."""
    try:
        tree = sqlglot.parse_one(sql, dialect=DIALECT)
        num_nodes = sum(1 for _ in tree.walk())
        return list(dict.fromkeys(text for place in range(num_nodes) for text in _changed_at(tree, place)))
    except (SqlglotError, RecursionError):
        return []


def _changed_at(tree: exp.Expr, place: int) -> Iterator[str]:
    copy = tree.copy()
    node = next(one for number, one in enumerate(copy.walk()) if number == place)
    if _change(node):
        yield copy.sql(dialect=DIALECT)


def _change(node: exp.Expr) -> bool:
    """Change the node; return whether anything was changed."""
    if (comparison := _OTHER_COMPARISON.get(type(node))) is not None:
        node.replace(comparison(this=node.this, expression=node.expression))
    elif (aggregate := _OTHER_AGGREGATE.get(type(node))) is not None:
        node.replace(aggregate(this=node.this))
    elif isinstance(node, exp.Ordered):
        is_ascending = bool(node.args.get("desc"))
        node.set("desc", not is_ascending)
        node.set("nulls_first", is_ascending)  # as SQLite orders by itself
    elif isinstance(node, exp.Distinct | exp.Where | exp.Limit | exp.Having) and node.parent is not None:
        is_of_select = isinstance(node.parent, exp.Select)
        if is_of_select:
            node.pop()
        return is_of_select
    elif isinstance(node, exp.Literal):
        node.set("this", str(int(node.name) + 1) if node.is_int else f"{node.name}x")
    else:
        return False
    return True
