"""Finds the CTEs of a query, and those that the query really uses (pure)."""

from __future__ import annotations

from sqlglot import exp

_PLACES = ("with_", "with")


def ctes_of(query: exp.Query) -> list[exp.CTE]:
    """Return the CTEs of the statement's own WITH, in order."""
    found = next((query.args[place] for place in _PLACES if query.args.get(place)), None)
    return list(found.expressions) if found else []


def used_ctes(query: exp.Query) -> set[str]:
    """Return the names, in lower case, of tables and CTEs that the statement reads, if only through another CTE."""
    body = query.copy()
    for place in _PLACES:
        body.set(place, None)
    used = {table.name.lower() for table in body.find_all(exp.Table)}
    for cte in reversed(ctes_of(query)):
        if cte.alias.lower() in used:
            used |= {table.name.lower() for table in cte.this.find_all(exp.Table)}
    return used
