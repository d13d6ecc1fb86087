"""The two forms that a query is read as, and how each travels in a frame (pure; sqlglot does the parsing)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from floe.reward_service.graph.build import BuiltQuery, build
from floe.reward_service.graph.operators import Piece
from floe.reward_service.graph.plan import NoPlan, SyntaxFault, is_parsers_fault, schema_of
from floe.reward_service.graph.terms import Edge, Node, OperatorGraph
from floe.reward_service.sql_text.sql_similarity import KnownSchema, QueryParts, query_parts

Columns = Mapping[str, Mapping[str, str]]  # table -> column -> declared type


FAULTS = ("limit", "fault")  # kinds that are faults of reading; all other kinds are properties of the query


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A text that has no such form. `kind` is `syntax`, `no_plan`, `no_parts`, `limit` or `fault`.

    `is_fault` where no property of the query is to blame: the parser itself failed, or a limit was exceeded.
    """

    kind: str
    message: str
    is_fault: bool = False


Form = QueryParts | BuiltQuery | Unreadable
Read = Callable[[str], Form]
ReadQueries = Callable[[str, Iterable[str]], Mapping[str, Form]]  # from database id and texts to each one's form


def reader_of(form: str, columns: Columns) -> Read:
    """Return the function that reads the queries of one database. Raises KeyError for an unknown form."""
    return {"parts": _parts_reader, "graph": _graph_reader}[form](columns)


def _parts_reader(columns: Columns) -> Read:
    schema = KnownSchema.of(columns)

    def read(sql: str) -> Form:
        return query_parts(sql, schema) or Unreadable("no_parts", "it is no single query that can be read")

    return read


def _graph_reader(columns: Columns) -> Read:
    schema = schema_of(columns)

    def read(sql: str) -> Form:
        try:
            return build(sql, schema)
        except SyntaxFault as error:
            return Unreadable("syntax", str(error), is_parsers_fault(error))
        except NoPlan as error:
            return Unreadable("no_plan", str(error), is_parsers_fault(error))

    return read


def note_of(form: Form | None) -> str:
    """Return a score's message on a query that the design could not read by no fault of the query; otherwise empty."""
    if isinstance(form, Unreadable) and form.is_fault:
        return f"the design could not read it: {form.message}"
    return ""


def encoded(form: Form) -> dict[str, Any]:
    match form:
        case Unreadable(kind, message, is_fault):
            return {"unreadable": kind, "message": message, "is_fault": is_fault}
        case QueryParts():
            return {"items": sorted(form.schema_items), "ngrams": sorted(form.ngrams)}
        case BuiltQuery():
            graph = form.graph
            return {"nodes": graph.nodes, "signatures": graph.signatures, "edges": graph.edges, "steps": form.steps}


def decoded(found: Mapping[str, Any]) -> Form:
    if "unreadable" in found:
        return Unreadable(found["unreadable"], found["message"], found["is_fault"])
    if "items" in found:
        return QueryParts(frozenset(found["items"]), frozenset(tuple(one) for one in found["ngrams"]))
    graph = OperatorGraph(
        tuple(Node(*one) for one in found["nodes"]),
        tuple(found["signatures"]),
        tuple(Edge(*one) for one in found["edges"]),
    )
    return BuiltQuery(graph, tuple(tuple(Piece(*piece) for piece in step) for step in found["steps"]))
