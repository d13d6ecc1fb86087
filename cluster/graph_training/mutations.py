"""Small changes of a query that change its meaning (pure), from which different pairs are made.

Each takes a query that it may change and returns the other one, or None where it does not apply. That the meaning did
change is checked by execution, with every pair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from sqlglot import exp

from floe.cluster.databases.dialect import DIALECT

_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_AGGREGATES = (exp.Max, exp.Min, exp.Avg, exp.Sum, exp.Count)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Replacements that a mutation may use: columns of each table, and texts that occur in the golds."""

    columns: Mapping[str, Sequence[str]]
    texts: Sequence[str]


Mutation = Callable[[exp.Query, Random, Surroundings], exp.Query | None]


def mutated(query: exp.Query, rng: Random, around: Surroundings) -> tuple[exp.Query, str] | None:
    """Return the query after one mutation, and its name; None where no mutation applies."""
    for name in rng.sample(list(MUTATIONS), len(MUTATIONS)):
        found = MUTATIONS[name](query.copy(), rng, around)
        if found is not None and found != query:
            return found, name
    return None


def other_column(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Put a column of the same table in place of one."""
    tables = {one.alias_or_name.lower(): one.name.lower() for one in query.find_all(exp.Table)}
    found = []
    for column in query.find_all(exp.Column):
        table = tables.get(column.table.lower()) if column.table else next(iter(tables.values()), "")
        others = [name for name in around.columns.get(table or "", ()) if name.lower() != column.name.lower()]
        if others:
            found.append((column, others))
    if not found:
        return None
    column, others = rng.choice(found)
    column.set("this", exp.to_identifier(rng.choice(others)))
    return query


def other_comparison(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    places = list(query.find_all(exp.Where, exp.Having))
    found = [node for place in places for node in place.find_all(*_COMPARISONS)]
    if not found:
        return None
    node = rng.choice(found)
    kind = rng.choice([one for one in _COMPARISONS if one is not type(node)])
    node.replace(kind(this=node.this.copy(), expression=node.expression.copy()))
    return query


def other_literal(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    places = list(query.find_all(exp.Where, exp.Having))
    found = [node for place in places for node in place.find_all(exp.Literal)]
    if not found:
        return None
    node = rng.choice(found)
    if node.is_string:
        others = [text for text in around.texts if text != node.this] or [f"{node.this}x"]
        node.replace(exp.Literal.string(rng.choice(others)))
    else:
        value = float(node.this)
        other = value + rng.choice((-1, 1, 2, 10)) if value.is_integer() else value * rng.choice((0.5, 2.0))
        node.replace(exp.Literal.number(int(other) if other.is_integer() else other))
    return query


def other_aggregate(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = [node for node in query.find_all(*_AGGREGATES) if isinstance(node.this, exp.Column)]
    if not found:
        return None
    node = rng.choice(found)
    kind = rng.choice([one for one in _AGGREGATES if one is not type(node)])
    node.replace(kind(this=node.this.copy()))
    return query


def count_distinct(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Make COUNT count each value once, or no longer."""
    found = [node for node in query.find_all(exp.Count) if isinstance(node.this, exp.Column | exp.Distinct)]
    if not found:
        return None
    node = rng.choice(found)
    inner = node.this
    node.set(
        "this",
        inner.expressions[0].copy() if isinstance(inner, exp.Distinct) else exp.Distinct(expressions=[inner.copy()]),
    )
    return query


def drop_condition(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Drop one of the conditions of an AND or OR, or all of a WHERE or HAVING."""
    connectors = list(query.find_all(exp.And, exp.Or))
    if connectors and rng.random() < 0.8:
        node = rng.choice(connectors)
        node.replace(rng.choice((node.this, node.expression)).copy())
        return query
    places = list(query.find_all(exp.Where, exp.Having))
    if not places:
        return None
    rng.choice(places).pop()
    return query


def or_for_and(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = [node for place in query.find_all(exp.Where) for node in place.find_all(exp.And, exp.Or)]
    if not found:
        return None
    node = rng.choice(found)
    make = exp.Or if isinstance(node, exp.And) else exp.And
    node.replace(make(this=node.this.copy(), expression=node.expression.copy()))
    return query


def other_direction(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = list(query.find_all(exp.Ordered))
    if not found:
        return None
    node = rng.choice(found)
    node.replace(exp.Ordered(this=node.this.copy(), desc=not node.args.get("desc")))
    return query


def drop_order(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = list(query.find_all(exp.Order))
    if not found:
        return None
    rng.choice(found).pop()
    return query


def other_limit(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    limit = query.args.get("limit")
    if limit is None:
        return query.limit(rng.choice((1, 3))) if query.args.get("order") else None
    if rng.random() < 0.4:
        query.set("limit", None)
        return query
    value = int(limit.expression.this) if isinstance(limit.expression, exp.Literal) else 1
    return query.limit(value + rng.choice((1, 2, 4)))


def toggle_distinct(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = list(query.find_all(exp.Select))
    select = rng.choice(found) if found else None
    if select is None:
        return None
    select.set("distinct", None if select.args.get("distinct") else exp.Distinct())
    return query


def outer_join(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = [join for join in query.find_all(exp.Join) if join.args.get("on") and not join.side]
    if not found:
        return None
    rng.choice(found).set("side", "LEFT")
    return query


def other_key(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Join on another column."""
    tables = {one.alias_or_name.lower(): one.name.lower() for one in query.find_all(exp.Table)}
    sides = [
        side
        for join in query.find_all(exp.Join)
        if isinstance(on := join.args.get("on"), exp.EQ)
        for side in (on.this, on.expression)
        if isinstance(side, exp.Column) and len(around.columns.get(tables.get(side.table.lower(), ""), ())) > 1
    ]
    if not sides:
        return None
    side = rng.choice(sides)
    others = [name for name in around.columns[tables[side.table.lower()]] if name.lower() != side.name.lower()]
    side.set("this", exp.to_identifier(rng.choice(others)))
    return query


def other_items(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Drop a selected column, or swap two."""
    if not isinstance(query, exp.Select) or len(query.expressions) < 2:
        return None
    items = [item.copy() for item in query.expressions]
    if rng.random() < 0.5:
        items.pop(rng.randrange(len(items)))
    else:
        index = rng.randrange(len(items) - 1)
        items[index], items[index + 1] = items[index + 1], items[index]
    query.set("expressions", items)
    return query


def other_set_operation(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    if not isinstance(query, exp.SetOperation):
        return None
    kind = rng.choice([one for one in (exp.Union, exp.Intersect, exp.Except) if not isinstance(query, one)])
    return kind(this=query.this.copy(), expression=query.expression.copy(), distinct=True)


def other_group(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    found = list(query.find_all(exp.Group))
    if not found:
        return None
    rng.choice(found).pop()
    return query


def further_table(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Add another table in FROM, joined by some columns or by none."""
    selects = [one for one in query.find_all(exp.Select) if one.args.get("from_") and not one.find(exp.Star)]
    named = {one.name.lower() for one in query.find_all(exp.Table)}
    others = [table for table in around.columns if table not in named]
    if not selects or not others:
        return None
    select, other = rng.choice(selects), rng.choice(others)
    columns = [one for one in select.find_all(exp.Column) if one.table]
    join = exp.Join(this=exp.to_table(exp.to_identifier(other).sql(), dialect=DIALECT).as_(f"more_{len(named)}"))
    if columns and rng.random() < 0.6:
        key = exp.column(rng.choice(list(around.columns[other])), f"more_{len(named)}")
        join.set("on", exp.EQ(this=rng.choice(columns).copy(), expression=key))
    select.append("joins", join)
    return query


def further_condition(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Add one more condition on a column, or on the size of the groups."""
    if not isinstance(query, exp.Select):
        return None
    if query.args.get("group") and rng.random() < 0.5:
        size = exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(rng.choice((1, 2, 3))))
        return query.having(size)
    columns = [one for item in query.expressions for one in item.find_all(exp.Column)]
    if not columns:
        return None
    value = exp.Literal.string(rng.choice(around.texts)) if around.texts else exp.Literal.number(1)
    kind = rng.choice((exp.NEQ, exp.GT, exp.LT))
    missing = exp.Not(this=exp.Is(this=rng.choice(columns).copy(), expression=exp.Null()))
    return query.where(rng.choice((kind(this=rng.choice(columns).copy(), expression=value), missing)))


def toggle_membership(query: exp.Query, rng: Random, around: Surroundings) -> exp.Query | None:
    """Swap IN and NOT IN, EXISTS and NOT EXISTS."""
    found = list(query.find_all(exp.In, exp.Exists, exp.Like))
    if not found:
        return None
    node = rng.choice(found)
    if isinstance(node.parent, exp.Not):
        node.parent.replace(node.copy())
    else:
        node.replace(exp.Not(this=node.copy()))
    return query


MUTATIONS: dict[str, Mutation] = {
    function.__name__: function
    for function in (
        other_column,
        other_comparison,
        other_literal,
        other_aggregate,
        count_distinct,
        drop_condition,
        or_for_and,
        other_direction,
        drop_order,
        other_limit,
        toggle_distinct,
        outer_join,
        other_key,
        other_items,
        other_set_operation,
        other_group,
        further_table,
        further_condition,
        toggle_membership,
    )
}
