"""Rewrites of a query that keep its meaning (pure), from which equivalent pairs are made.

Each takes a query that it may change and returns the other form, or None where it does not apply. Columns name their
tables. What a rewrite says of NULLs is checked by execution, with every pair.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from sqlglot import exp

from floe.cluster.graph_training.nested_rewrites import NESTED_REWRITES

Rewrite = Callable[[exp.Query, Random], exp.Query | None]

_SWAPPED = {exp.LT: exp.GT, exp.GT: exp.LT, exp.LTE: exp.GTE, exp.GTE: exp.LTE}
_NEGATED = {exp.EQ: exp.NEQ, exp.NEQ: exp.EQ, exp.LT: exp.GTE, exp.GTE: exp.LT, exp.GT: exp.LTE, exp.LTE: exp.GT}


def rewritten(query: exp.Query, rng: Random, num_rewrites: int) -> tuple[exp.Query, tuple[str, ...]] | None:
    """Return the query after up to `num_rewrites` different rewrites and their names; None where none applies."""
    names: list[str] = []
    current = query.copy()
    for name in rng.sample(list(REWRITES), len(REWRITES)):
        if len(names) == num_rewrites:
            break
        found = REWRITES[name](current.copy(), rng)
        if found is not None and found != current:
            current = found
            names.append(name)
    return (current, tuple(names)) if names else None


def commute(query: exp.Query, rng: Random) -> exp.Query | None:
    """Let operands of AND, OR, = and <> change sides, and turn comparisons around."""
    chosen = [
        node
        for node in query.find_all(exp.And, exp.Or, exp.EQ, exp.NEQ, *_SWAPPED)
        if isinstance(node, exp.Binary) and rng.random() < 0.6
    ]
    for node in chosen:
        left, right = node.this.copy(), node.expression.copy()
        node.replace(_SWAPPED.get(type(node), type(node))(this=right, expression=left))
    return query if chosen else None


def rename_aliases(query: exp.Query, rng: Random) -> exp.Query | None:
    """Give every source another alias."""
    sources = [one for one in query.find_all(exp.Table, exp.Subquery) if one.alias]
    named = {one.alias.lower() for one in sources}
    columns = list(query.find_all(exp.Column))
    if not sources or any(column.table and column.table.lower() not in named for column in columns):
        return None
    style = rng.choice(("t{}", "x{}", "src_{}", "alias{}"))
    names = {name: style.format(number + 1) for number, name in enumerate(sorted(named))}
    for source in sources:
        source.args["alias"].set("this", exp.to_identifier(names[source.alias.lower()]))
    for column in columns:
        if column.table:
            column.set("table", exp.to_identifier(names[column.table.lower()]))
    return query


def range_for_between(query: exp.Query, rng: Random) -> exp.Query | None:
    found = list(query.find_all(exp.Between))
    for node in found:
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
        high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
        node.replace(exp.paren(exp.and_(low, high)))
    return query if found else None


def between_for_range(query: exp.Query, rng: Random) -> exp.Query | None:
    for node in query.find_all(exp.And):
        low, high = node.this, node.expression
        if isinstance(low, exp.GTE) and isinstance(high, exp.LTE) and low.this == high.this:
            node.replace(exp.Between(this=low.this.copy(), low=low.expression.copy(), high=high.expression.copy()))
            return query
    return None


def or_for_in(query: exp.Query, rng: Random) -> exp.Query | None:
    found = [node for node in query.find_all(exp.In) if len(node.expressions) > 1]
    for node in found:
        parts = [exp.EQ(this=node.this.copy(), expression=value.copy()) for value in node.expressions]
        node.replace(exp.paren(exp.or_(*parts)))
    return query if found else None


def in_for_or(query: exp.Query, rng: Random) -> exp.Query | None:
    for node in query.find_all(exp.Or):
        sides = (node.this, node.expression)
        is_list = all(isinstance(side, exp.EQ) and isinstance(side.expression, exp.Literal) for side in sides)
        if is_list and sides[0].this == sides[1].this:
            node.replace(exp.In(this=sides[0].this.copy(), expressions=[side.expression.copy() for side in sides]))
            return query
    return None


def count_one(query: exp.Query, rng: Random) -> exp.Query | None:
    found = [node for node in query.find_all(exp.Count) if isinstance(node.this, exp.Star)]
    for node in found:
        node.set("this", exp.Literal.number(1))
    return query if found else None


def comma_join(query: exp.Query, rng: Random) -> exp.Query | None:
    """Move conditions of inner joins to WHERE."""
    changed = False
    for select in query.find_all(exp.Select):
        joins = select.args.get("joins") or []
        if not joins or any(join.side or not join.args.get("on") for join in joins):
            continue
        conditions = [join.args["on"].copy() for join in joins]
        select.set("joins", [exp.Join(this=join.this.copy()) for join in joins])
        select.where(*conditions, copy=False)
        changed = True
    return query if changed else None


def swap_joins(query: exp.Query, rng: Random) -> exp.Query | None:
    """Swap the two sides of an inner join."""
    for select in query.find_all(exp.Select):
        joins = select.args.get("joins") or []
        origin = select.args.get("from_")
        if len(joins) == 1 and origin is not None and not joins[0].side and not select.find(exp.Star):
            first, second = origin.this.copy(), joins[0].this.copy()
            origin.set("this", second)
            joins[0].set("this", first)
            return query
    return None


def group_for_distinct(query: exp.Query, rng: Random) -> exp.Query | None:
    for select in query.find_all(exp.Select):
        plain = all(isinstance(item.unalias(), exp.Column) for item in select.expressions)
        if select.args.get("distinct") and plain and not select.args.get("group") and not select.args.get("order"):
            select.set("distinct", None)
            select.set("group", exp.Group(expressions=[item.unalias().copy() for item in select.expressions]))
            return query
    return None


def distinct_for_group(query: exp.Query, rng: Random) -> exp.Query | None:
    for select in query.find_all(exp.Select):
        group = select.args.get("group")
        if group is None or select.args.get("having") or select.args.get("order"):
            continue
        keys = {key.sql() for key in group.expressions}
        if keys and keys == {item.unalias().sql() for item in select.expressions}:
            select.set("group", None)
            select.set("distinct", exp.Distinct())
            return query
    return None


def negated_comparison(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write `a > b` as NOT (a <= b), in a WHERE or HAVING."""
    places = list(query.find_all(exp.Where, exp.Having))
    found = [node for place in places for node in place.find_all(*_NEGATED)]
    if not found:
        return None
    node = rng.choice(found)
    opposite = _NEGATED[type(node)](this=node.this.copy(), expression=node.expression.copy())
    node.replace(exp.Not(this=exp.paren(opposite)))
    return query


def order_by_place(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write ORDER BY with the number of a selected column."""
    for select in query.find_all(exp.Select):
        order = select.args.get("order")
        items = [item.unalias() for item in select.expressions]
        for ordered in order.expressions if order else ():
            named = [index for index, item in enumerate(select.expressions) if item.alias_or_name == ordered.this.sql()]
            places = [index for index, item in enumerate(items) if item == ordered.this] or named
            if places and not isinstance(ordered.this, exp.Literal):
                ordered.set("this", exp.Literal.number(places[0] + 1))
                return query
    return None


def sum_over_count(query: exp.Query, rng: Random) -> exp.Query | None:
    found = [node for node in query.find_all(exp.Avg) if not isinstance(node.this, exp.Distinct)]
    for node in found:
        total = exp.Mul(this=exp.Sum(this=node.this.copy()), expression=exp.Literal.number("1.0"))
        node.replace(exp.paren(exp.Div(this=total, expression=exp.Count(this=node.this.copy()))))
    return query if found else None


def idle_condition(query: exp.Query, rng: Random) -> exp.Query | None:
    """Add a condition that says nothing new."""
    wheres = list(query.find_all(exp.Where))
    if not wheres:
        return None
    where = rng.choice(wheres)
    one = exp.EQ(this=exp.Literal.number(1), expression=exp.Literal.number(1))
    idle = rng.choice((one, exp.paren(where.this.copy()) if isinstance(where.this, exp.Or) else where.this.copy()))
    kept = exp.paren(where.this.copy()) if isinstance(where.this, exp.Or) else where.this.copy()
    where.set("this", exp.and_(kept, idle))
    return query


def idle_distinct(query: exp.Query, rng: Random) -> exp.Query | None:
    """Add DISTINCT where there are no duplicates or they don't count: one row, IN, one side of a set operation."""
    found = []
    for select in query.find_all(exp.Select):
        around = select.parent.unnest() if isinstance(select.parent, exp.Subquery) else select
        is_member = isinstance(around.parent, exp.In) and not select.args.get("limit")
        is_side = isinstance(select.parent, exp.SetOperation) and bool(select.parent.args.get("distinct"))
        is_one_row = not select.args.get("group") and any(
            isinstance(one.unalias(), exp.AggFunc) for one in select.expressions
        )
        if (is_member or is_side or is_one_row) and not select.args.get("distinct"):
            found.append(select)
    if not found:
        return None
    rng.choice(found).set("distinct", exp.Distinct())
    return query


def idle_order(query: exp.Query, rng: Random) -> exp.Query | None:
    """Add ORDER BY where no order was asked for."""
    if not isinstance(query, exp.Select) or query.args.get("order") or query.args.get("limit"):
        return None
    columns = [item.unalias() for item in query.expressions if isinstance(item.unalias(), exp.Column)]
    if not columns:
        return None
    return query.order_by(exp.Ordered(this=rng.choice(columns).copy(), desc=rng.random() < 0.5))


def swap_operands(query: exp.Query, rng: Random) -> exp.Query | None:
    """Swap the two queries of a UNION or INTERSECT where their columns have their own names."""
    if not isinstance(query, exp.Union | exp.Intersect) or query.args.get("order") or query.args.get("limit"):
        return None
    left, right = query.this.copy(), query.expression.copy()
    query.set("this", right)
    query.set("expression", left)
    return query


REWRITES: dict[str, Rewrite] = {
    function.__name__: function
    for function in (
        commute,
        rename_aliases,
        range_for_between,
        between_for_range,
        or_for_in,
        in_for_or,
        count_one,
        comma_join,
        swap_joins,
        group_for_distinct,
        distinct_for_group,
        negated_comparison,
        order_by_place,
        sum_over_count,
        idle_condition,
        idle_distinct,
        idle_order,
        swap_operands,
        *NESTED_REWRITES,
    )
}
