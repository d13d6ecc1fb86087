"""Spider's four levels of hardness, computed from a query's syntax tree (pure).

The rules are those of `Evaluator.eval_hardness` in taoyds/spider, evaluation.py (Yu et al., EMNLP 2018).
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from floe.cluster.databases.dialect import DIALECT

LEVELS = ("easy", "medium", "hard", "extra")
UNKNOWN = "unknown"  # a text that is no query, or can't be parsed

_AGGREGATES = (exp.Max, exp.Min, exp.Count, exp.Sum, exp.Avg)
_ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div)


def spider_hardness(sql: str) -> str:
    """Return one of LEVELS, or UNKNOWN. Of several set operations the first query counts, as in the published code."""
    try:
        tree = sqlglot.parse_one(sql, dialect=DIALECT)
    except (SqlglotError, RecursionError):
        return UNKNOWN
    num_nested = int(isinstance(tree, exp.SetOperation))
    while isinstance(tree, exp.SetOperation | exp.Subquery | exp.Paren):
        tree = tree.this
    if not isinstance(tree, exp.Select):
        return UNKNOWN
    units = list(_units(tree))
    num_nested += sum(_num_subqueries(unit) for unit in units)
    return _level(_num_components(tree, units), num_nested, _num_others(tree))


def _level(num_components: int, num_nested: int, num_others: int) -> str:
    if num_nested == 0:
        if num_components <= 1 and num_others == 0:
            return "easy"
        if (num_components <= 1 and num_others <= 2) or (num_components <= 2 and num_others < 2):
            return "medium"
        if (num_components <= 2 and num_others > 2) or (num_components == 3 and num_others <= 2):
            return "hard"
    return "hard" if num_nested <= 1 and num_components <= 1 and num_others == 0 else "extra"


def _num_components(select: exp.Select, units: list[exp.Expr]) -> int:
    """Count WHERE, GROUP BY, ORDER BY and LIMIT, each JOIN, each OR and each LIKE."""
    clauses = sum(select.args.get(name) is not None for name in ("where", "group", "order", "limit"))
    num_or = sum(len(list(_connectors(condition, exp.Or))) for condition in _conditions(select))
    num_like = sum(isinstance(_positive(unit), exp.Like) for unit in units)
    return clauses + len(select.args.get("joins") or ()) + num_or + num_like


def _num_others(select: exp.Select) -> int:
    """Count one each for more than one aggregate, selected column, WHERE condition and grouped column."""
    where, having = select.args.get("where"), select.args.get("having")
    group, order = select.args.get("group"), select.args.get("order")
    where_units = list(_split(where.this)) if where else []
    having_units = list(_split(having.this)) if having else []
    num_aggregates = sum(_begins_with_aggregate(column) for column in select.expressions)
    # The published code takes the first field of any unit for its aggregate: in a condition that is its NOT, and in a
    # connector in HAVING its first letter.
    num_aggregates += sum(_is_negated(unit) for unit in (*where_units, *having_units)) + max(0, len(having_units) - 1)
    num_aggregates += sum(isinstance(column, _AGGREGATES) for column in (group.expressions if group else ()))
    num_aggregates += sum(_num_operands_aggregated(one.this) for one in (order.expressions if order else ()))
    num_grouped = len(group.expressions) if group else 0
    return sum((num_aggregates > 1, len(select.expressions) > 1, len(where_units) > 1, num_grouped > 1))


def _conditions(select: exp.Select) -> Iterator[exp.Expr]:
    """Return the conditions of every ON, of WHERE and of HAVING."""
    yield from (join.args["on"] for join in select.args.get("joins") or () if join.args.get("on"))
    yield from (select.args[name].this for name in ("where", "having") if select.args.get(name))


def _units(select: exp.Select) -> Iterator[exp.Expr]:
    for condition in _conditions(select):
        yield from _split(condition)


def _split(condition: exp.Expr) -> Iterator[exp.Expr]:
    """Return the conditions between AND and OR."""
    bare = condition.unnest()
    if isinstance(bare, exp.And | exp.Or):
        yield from _split(bare.this)
        yield from _split(bare.expression)
    else:
        yield condition


def _connectors(condition: exp.Expr, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    bare = condition.unnest()
    if isinstance(bare, exp.And | exp.Or):
        if isinstance(bare, kind):
            yield bare
        yield from _connectors(bare.this, kind)
        yield from _connectors(bare.expression, kind)


def _positive(unit: exp.Expr) -> exp.Expr:
    bare = unit.unnest()
    return bare.this.unnest() if isinstance(bare, exp.Not) else bare


def _is_negated(unit: exp.Expr) -> bool:
    """Return whether it is negated; to the published parser IS NOT is an operator and a value, not a negation."""
    return isinstance(unit.unnest(), exp.Not) and not isinstance(_positive(unit), exp.Is)


def _num_subqueries(unit: exp.Expr) -> int:
    """Count the outermost subqueries: a query within a query makes that one harder, not this one."""
    if isinstance(unit, exp.Query):
        return 1
    return sum(_num_subqueries(child) for child in unit.iter_expressions())


def _begins_with_aggregate(column: exp.Expr) -> bool:
    node = column.unalias().unnest()
    while isinstance(node, _ARITHMETIC):
        node = node.this.unnest()
    return isinstance(node, _AGGREGATES)


def _num_operands_aggregated(ordered: exp.Expr) -> int:
    node = ordered.unnest()
    operands = (node.this, node.expression) if isinstance(node, _ARITHMETIC) else (node,)
    return sum(isinstance(operand.unnest(), _AGGREGATES) for operand in operands)
