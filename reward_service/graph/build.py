"""Builds an operator graph from SQL, and the pieces of its steps (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from floe.reward_service.graph.operators import Piece, operators
from floe.reward_service.graph.plan import DatabaseSchema, NoPlan, merged, parsed, resolved
from floe.reward_service.graph.terms import OperatorGraph, TooManyNodes, numbered


@dataclass(frozen=True, slots=True)
class BuiltQuery:
    """`graph` of the query with its CTEs folded in; `steps` of the query as it is written."""

    graph: OperatorGraph
    steps: tuple[tuple[Piece, ...], ...]


def build(sql: str, schema: DatabaseSchema) -> BuiltQuery:
    """Build the query. Raises SyntaxFault, and NoPlan for a query that is unresolvable, too large or not supported."""
    query = resolved(parsed(sql), schema.columns)
    try:
        folded = merged(query.copy())  # before the walk, which gives nodes new parents
        steps = operators(query, schema.tables).steps
        graph = numbered(operators(folded, schema.tables).root)
    except NoPlan:
        raise
    except TooManyNodes as error:
        raise NoPlan(str(error)) from error
    except RecursionError as error:
        raise NoPlan("the query is nested too deep") from error
    except Exception as error:  # a form of tree that the walk does not know: a property of the query
        raise NoPlan(f"{type(error).__name__}: {error}") from error
    return BuiltQuery(graph, steps)
