"""Rejects queries in advance for which sqlglot's optimizer could make a far larger tree (pure)."""

from __future__ import annotations

from collections import Counter

from sqlglot import exp

MAX_JOINS = 30  # each USING names all tables before it
MAX_SELECTS = 30

MAX_GROWTH = 4096
MAX_NAMES = 400  # names of columns in the text
MAX_TREE_NODES = 5_000


def excess(query: exp.Query) -> str | None:
    """Return what is too much of it; None where all is within the limits."""
    if sum(1 for _ in query.find_all(exp.Join)) > MAX_JOINS:
        return f"more than {MAX_JOINS} joins"
    if sum(1 for _ in query.find_all(exp.Column)) > MAX_NAMES:
        return f"more than {MAX_NAMES} names of columns"
    if sum(1 for _ in query.walk()) > MAX_TREE_NODES:
        return f"more than {MAX_TREE_NODES} nodes in its tree"
    if sum(1 for _ in query.find_all(exp.Select)) > MAX_SELECTS:
        return f"more than {MAX_SELECTS} SELECTs"
    growth = 1
    for select in query.find_all(exp.Select):
        growth *= _growth(select)
        if growth > MAX_GROWTH:
            return "names that stand for more and more"
    return None


def _growth(select: exp.Select) -> int:
    """Return about how often the SELECT may at most repeat an expression of its sources in an output.

    The optimizer replaces names by their expressions. A name that stands twice doubles its expression, at each level of
    subqueries, and within a SELECT for each alias that the next output is made of.
    """
    sources = [join.this for join in select.args.get("joins") or ()]
    num_stars = sum(1 for item in select.expressions if item.is_star)
    growth = num_stars * (1 + len(sources)) if num_stars else 1
    names: Counter[str] = Counter()
    made: set[str] = set()
    num_of_own = 0
    for item in select.expressions:
        used = [column.name.lower() for column in item.find_all(exp.Column)]
        names.update(used)
        num_of_own += sum(name in made for name in used)
        if isinstance(item, exp.Alias):
            made.add(item.alias.lower())
    most = max(names.values(), default=1)
    times: int = max(1, growth) * most * 2 ** min(num_of_own, 20)
    return times
