"""Nodes of a relational operator graph while it is built, and the numbered graph that comes out (pure).

A term's signature is a hash of everything below it, so equal terms have equal signatures, whatever order a commutative
operator has its operands in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

MAX_NODES = 400

# Links along which data flows, from what is computed to where its rows come from.
INPUT, OF, OVER = "input", "of", "over"
FLOW = frozenset({INPUT, OF, OVER})


class Link(NamedTuple):
    """A link to an operand. Operands of a commutative operator share one role; other roles have a number."""

    role: str
    term: Term


@dataclass(eq=False, slots=False)
class Term:
    """An operator or an expression. `name` is a column's, table's, function's or literal's; `owner` a column's table.

    Its links may be added to until a signature is asked for.
    """

    kind: str
    name: str = ""
    owner: str = ""
    links: list[Link] = field(default_factory=list)

    def add(self, role: str, *terms: Term) -> Term:
        self.links += [Link(role, term) for term in terms]
        return self

    @cached_property
    def signature(self) -> int:
        return self._hash([(link.role, link.term.signature) for link in self.links])

    @cached_property
    def expression(self) -> int:
        """The signature without the rows that it is computed on: that of the formula alone."""
        return self._hash([(link.role, link.term.expression) for link in self.links if link.role not in FLOW])

    def _hash(self, below: Iterable[tuple[str, int]]) -> int:
        return xxh3_64_intdigest(
            repr((self.kind, self.name, self.owner, sorted(below))).encode("utf-8", "backslashreplace")
        )


class Node(NamedTuple):
    kind: str
    name: str
    owner: str


class Edge(NamedTuple):
    """An edge from an operator or expression, by number, to one of its operands or inputs."""

    parent: int
    child: int
    role: str


@dataclass(frozen=True)
class OperatorGraph:
    """A graph whose order of nodes depends only on their content; node 0 is the outermost operator."""

    nodes: tuple[Node, ...]
    signatures: tuple[int, ...]  # signature of each node, with everything below it
    edges: tuple[Edge, ...]

    @cached_property
    def digest(self) -> int:
        """Digest of the graph; equal graphs have equal digests."""
        return xxh3_128_intdigest(repr((self.nodes, self.edges)).encode("utf-8", "backslashreplace"))


class TooManyNodes(Exception):
    """The graph has more than MAX_NODES nodes."""


def numbered(root: Term) -> OperatorGraph:
    """Return the graph of everything that `root` leads to. Raises TooManyNodes."""
    numbers: dict[int, int] = {id(root): 0}
    terms, edges = [root], []
    for parent, term in enumerate(terms):  # the list grows while it is walked: breadth first
        for role, child in sorted(term.links, key=lambda link: (link.role, link.term.signature)):
            if id(child) not in numbers:
                numbers[id(child)] = len(terms)
                terms.append(child)
                if len(terms) > MAX_NODES:
                    raise TooManyNodes(f"the query has more than {MAX_NODES} nodes")
            edges.append(Edge(parent, numbers[id(child)], role))
    nodes = tuple(Node(term.kind, term.name, term.owner) for term in terms)
    return OperatorGraph(nodes, tuple(term.signature for term in terms), tuple(edges))
