"""Rewrites that put queries into queries, or take them out, and keep the meaning (pure)."""

from __future__ import annotations

from random import Random

from sqlglot import exp

from floe.cluster.databases.dialect import DIALECT


def cte_of_all(query: exp.Query, rng: Random) -> exp.Query | None:
    """Turn the whole query into a CTE that is selected from."""
    if query.args.get("order") or query.args.get("limit") or query.args.get("with_"):
        return None
    name = rng.choice(("answer", "result", "base"))
    return exp.select("*").from_(name).with_(name, as_=query, dialect=DIALECT)


def cte_of_table(query: exp.Query, rng: Random) -> exp.Query | None:
    """Turn a table with the conditions on it alone into a CTE."""
    return _nested_table(query, rng, as_cte=True)


def derived_table(query: exp.Query, rng: Random) -> exp.Query | None:
    """Turn a table with the conditions on it alone into a query in FROM."""
    return _nested_table(query, rng, as_cte=False)


def _nested_table(query: exp.Query, rng: Random, *, as_cte: bool) -> exp.Query | None:
    if not isinstance(query, exp.Select) or query.args.get("with_") or not (origin := query.args.get("from_")):
        return None
    joins = query.args.get("joins") or []
    tables = [one.this for one in (origin, *joins) if isinstance(one.this, exp.Table)]
    if not tables or any(join.side for join in joins):
        return None
    table = rng.choice(tables)
    alias = table.alias_or_name
    own, others = _split_conditions(query, alias)
    inner = exp.select("*").from_(exp.to_table(table.name, dialect=DIALECT))
    for condition in own:
        for column in condition.find_all(exp.Column):
            column.set("table", None)
        inner = inner.where(condition)
    query.set("where", exp.Where(this=exp.and_(*others)) if others else None)
    if as_cte:
        name = rng.choice((f"{alias}_rows", "step1", "picked"))
        table.replace(exp.to_table(name).as_(alias))
        return query.with_(name, as_=inner, dialect=DIALECT)
    table.replace(inner.subquery(alias))
    return query


def _split_conditions(select: exp.Select, alias: str) -> tuple[list[exp.Expr], list[exp.Expr]]:
    """Return WHERE's conjuncts on this source alone, and the others."""
    where = select.args.get("where")
    if where is None:
        return [], []
    parts = list(where.this.flatten()) if isinstance(where.this, exp.And) else [where.this]
    own: list[exp.Expr] = []
    others: list[exp.Expr] = []
    for part in parts:
        columns = list(part.find_all(exp.Column))
        is_own = bool(columns) and not part.find(exp.Query) and all(column.table == alias for column in columns)
        kept = exp.paren(part.copy()) if isinstance(part, exp.Or) else part.copy()
        (own if is_own else others).append(kept)
    return own, others


def exists_for_in(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write `x IN (SELECT y ...)` as EXISTS with y = x."""
    for node in query.find_all(exp.In):
        inner = _plain_subquery(node)
        if inner is None or isinstance(node.parent, exp.Not) or not isinstance(node.this, exp.Column):
            continue
        if node.this.table in _aliases(inner) or not node.this.table:
            continue
        item = inner.expressions[0].unalias()
        inner = inner.where(exp.EQ(this=item.copy(), expression=node.this.copy()))
        inner.set("expressions", [exp.Literal.number(1)])
        inner.set("distinct", None)
        node.replace(exp.Exists(this=inner))
        return query
    return None


def join_for_in(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write `x IN (SELECT y ...)`, one of WHERE's conditions, as a join with the distinct y."""
    for select in query.find_all(exp.Select):
        where = select.args.get("where")
        parts = (
            list(where.this.flatten()) if where and isinstance(where.this, exp.And) else [where.this] if where else []
        )
        for part in parts:
            inner = _plain_subquery(part) if isinstance(part, exp.In) else None
            if inner is None or (select.find(exp.Star) is not None and not select.find(exp.Count)):
                continue
            inner.set("expressions", [exp.alias_(inner.expressions[0].unalias(), "key_of_it")])
            inner.set("distinct", exp.Distinct())
            others = [one.copy() for one in parts if one is not part]
            on = exp.EQ(this=part.this.copy(), expression=exp.column("key_of_it", "keys_of"))
            select.set("where", exp.Where(this=exp.and_(*others)) if others else None)
            select.append("joins", exp.Join(this=inner.subquery("keys_of"), on=on))
            return query
    return None


def in_for_join(query: exp.Query, rng: Random) -> exp.Query | None:
    """Turn a joined table that shows no column into `x IN (SELECT y ...)`; under DISTINCT it can't multiply rows."""
    for select in query.find_all(exp.Select):
        joins = select.args.get("joins") or []
        if not select.args.get("distinct") or not joins or any(join.side for join in joins):
            continue
        join = joins[-1]
        on, alias = join.args.get("on"), join.this.alias_or_name
        if not isinstance(on, exp.EQ) or not isinstance(join.this, exp.Table):
            continue
        sides = [side for side in (on.this, on.expression) if isinstance(side, exp.Column)]
        inner_side = [side for side in sides if side.table == alias]
        outer_side = [side for side in sides if side.table != alias]
        own, others = _split_conditions(select, alias)
        places = [*select.expressions, *others, *(one for key in ("order", "group") if (one := select.args.get(key)))]
        named = {column.table for place in places for column in place.find_all(exp.Column)}
        if len(inner_side) != 1 or len(outer_side) != 1 or alias in named or select.args.get("having"):
            continue
        inner = exp.select(inner_side[0].copy()).from_(join.this.copy())
        for condition in own:
            inner = inner.where(condition)
        select.set("joins", joins[:-1])
        select.set(
            "where", exp.Where(this=exp.and_(exp.In(this=outer_side[0].copy(), query=inner.subquery()), *others))
        )
        return query
    return None


def in_for_intersect(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write INTERSECT or EXCEPT of one column as [NOT] IN, under DISTINCT."""
    if not isinstance(query, exp.Intersect | exp.Except) or query.args.get("order") or query.args.get("limit"):
        return None
    left, right = query.this, query.expression
    if not isinstance(left, exp.Select) or not isinstance(right, exp.Select) or len(left.expressions) != 1:
        return None
    item = left.expressions[0].unalias()
    if any(left.args.get(key) for key in ("group", "having", "limit", "order")) or not isinstance(item, exp.Column):
        return None
    member: exp.Expr = exp.In(this=item.copy(), query=right.copy().subquery())
    left = left.copy().where(exp.Not(this=member) if isinstance(query, exp.Except) else member)
    left.set("distinct", exp.Distinct())
    return left


def in_for_equal(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write `x = (SELECT aggregate ...)` as IN."""
    for node in query.find_all(exp.EQ):
        if isinstance(node.expression, exp.Subquery) and isinstance(node.expression.this, exp.Select):
            inner = node.expression.this
            if len(inner.expressions) == 1 and isinstance(inner.expressions[0].unalias(), exp.AggFunc):
                node.replace(exp.In(this=node.this.copy(), query=node.expression.copy()))
                return query
    return None


def where_for_having(query: exp.Query, rng: Random) -> exp.Query | None:
    """Write HAVING as a condition on a query in FROM that has the aggregates as columns."""
    if not isinstance(query, exp.Select) or not (having := query.args.get("having")):
        return None
    if any(query.args.get(key) for key in ("order", "limit", "distinct", "with_")):
        return None
    condition = having.this.copy()
    holder = exp.Where(this=condition)
    aggregates = list(holder.find_all(exp.AggFunc))
    if any(not column.find_ancestor(exp.AggFunc) for column in holder.find_all(exp.Column)) or holder.find(exp.Query):
        return None
    inner = query.copy()
    inner.set("having", None)
    shown = [exp.alias_(item.unalias(), f"c{index}") for index, item in enumerate(inner.expressions)]
    hidden = [exp.alias_(one.copy(), f"h{index}") for index, one in enumerate(aggregates)]
    for index, one in enumerate(aggregates):
        one.replace(exp.column(f"h{index}", "grouped"))
    inner.set("expressions", shown + hidden)
    outer = exp.select(*(exp.column(f"c{index}", "grouped") for index in range(len(shown))))
    return outer.from_(inner.subquery("grouped")).where(holder.this)


def _plain_subquery(node: exp.In) -> exp.Select | None:
    """Return a copy of the query of an IN, where it is a SELECT of one column without groups and limits."""
    query = node.args.get("query")
    inner = query.this if isinstance(query, exp.Subquery) else query
    if not isinstance(inner, exp.Select) or len(inner.expressions) != 1:
        return None
    if any(inner.args.get(key) for key in ("group", "having", "limit", "with_")) or inner.find(exp.AggFunc):
        return None
    return inner.copy()


def _aliases(select: exp.Select) -> set[str]:
    return {one.alias_or_name for one in select.find_all(exp.Table, exp.Subquery)}


NESTED_REWRITES = (
    cte_of_all,
    cte_of_table,
    derived_table,
    exists_for_in,
    join_for_in,
    in_for_join,
    in_for_intersect,
    in_for_equal,
    where_for_having,
)
