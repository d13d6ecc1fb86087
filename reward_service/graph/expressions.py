"""Expressions of a resolved query as terms; several ways of writing one thing have one form (pure).

BETWEEN becomes two comparisons; `a > b` is `b < a`; NOT is pushed into comparisons; OR of equalities with one column is
IN; COUNT(1) is COUNT(*); operands of AND, OR, =, <>, + and * have no order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from sqlglot import exp

from floe.reward_service.graph.plan import NoPlan
from floe.reward_service.graph.terms import OVER, Term

_COMMUTATIVE: dict[type[exp.Expr], str] = {exp.EQ: "eq", exp.NEQ: "neq", exp.Add: "add", exp.Mul: "mul"}
# Comparisons are turned so that the smaller operand stands on the left.
_COMPARISONS: dict[type[exp.Expr], tuple[str, bool]] = {
    exp.LT: ("lt", False),
    exp.LTE: ("le", False),
    exp.GT: ("lt", True),
    exp.GTE: ("le", True),
}
_NEGATED: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.EQ: exp.NEQ,
    exp.NEQ: exp.EQ,
    exp.LT: exp.GTE,
    exp.GTE: exp.LT,
    exp.GT: exp.LTE,
    exp.LTE: exp.GT,
}
_COMPARED = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.In, exp.Between)
_TRANSPARENT = (exp.Paren, exp.Alias)


class ExpressionTerms:
    """Makes terms within one SELECT. `column` and `query` return the terms of a column and a subquery there."""

    def __init__(
        self, column: Callable[[exp.Column], Term], query: Callable[[exp.Query], Term], rows: Term | None
    ) -> None:
        """Set the terms' makers; `rows` is what aggregates are computed over, None where there are none."""
        self._column = column
        self._query = query
        self.rows = rows

    def conjuncts(self, condition: exp.Expr) -> list[Term]:
        """Return the terms of a condition that all must hold."""
        return [self.term(part) for part in _conjuncts(condition)]

    def term(self, node: exp.Expr) -> Term:
        while isinstance(node, _TRANSPARENT):
            node = node.this
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Query):
            return Term("scalar").add("query", self._query(node))
        if isinstance(node, exp.Literal | exp.Neg | exp.Boolean | exp.Null):
            return self._literal(node)
        if isinstance(node, exp.And | exp.Between):
            return Term("and").add("part", *self.conjuncts(node))
        if isinstance(node, exp.Or):
            return self._or(node)
        if isinstance(node, exp.Not):
            return self._not(node)
        if isinstance(node, exp.In):
            return self._in(node)
        if isinstance(node, exp.Exists):
            return Term("exists").add("query", self._query(node.this))
        return self._operation(node)

    def _operation(self, node: exp.Expr) -> Term:
        kind = type(node)
        if name := _COMMUTATIVE.get(kind):
            return Term(name).add("part", self.term(node.this), self.term(node.expression))
        if kind in _COMPARISONS:
            name, is_swapped = _COMPARISONS[kind]
            left, right = (node.expression, node.this) if is_swapped else (node.this, node.expression)
            return Term(name).add("0", self.term(left)).add("1", self.term(right))
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Literal | exp.Star):
            return self._over_rows(Term("count"))
        made = self._generic(node)
        return self._over_rows(made) if isinstance(node, exp.AggFunc) else made

    def _generic(self, node: exp.Expr) -> Term:
        """Return any node by its class, its operands by their place and its texts by name."""
        made = Term(str(node.key))
        texts = []
        for place, value in node.args.items():
            values = value if isinstance(value, list) else [value]
            for index, one in enumerate(values):
                if isinstance(one, exp.Identifier):
                    texts.append(one.name.lower())
                elif isinstance(one, exp.Expr):
                    made.add(f"{place}{index}" if isinstance(value, list) else place, self.term(one))
                elif one is not None and one is not False:
                    texts.append(f"{place}={getattr(one, 'value', one)}".lower())
        made.name = " ".join(texts)
        return made

    def _over_rows(self, made: Term) -> Term:
        return made if self.rows is None else made.add(OVER, self.rows)

    def _literal(self, node: exp.Expr) -> Term:
        sign, is_compared = "", _is_compared(node)
        while isinstance(node, exp.Neg | exp.Paren):
            sign = ("" if sign else "-") if isinstance(node, exp.Neg) else sign
            node = node.this
        if isinstance(node, exp.Literal) and not node.is_string:
            return Term("number", _number(f"{sign}{node.this}", keeps_type=not is_compared))
        found = Term("string", node.this) if isinstance(node, exp.Literal) else self._bare(node)
        return Term("neg").add("0", found) if sign else found

    def _bare(self, node: exp.Expr) -> Term:
        if isinstance(node, exp.Null):
            return Term("null")
        if isinstance(node, exp.Boolean):
            return Term("number", "1" if node.this else "0")
        return self.term(node)

    def _or(self, node: exp.Or) -> Term:
        """Gather equalities of one column with literals in one IN."""
        parts, values = [], defaultdict(list)
        for part in _disjuncts(node):
            found = self.term(part)
            sides = [link.term for link in found.links]
            constants = [side for side in sides if side.kind in ("number", "string")]
            if found.kind == "eq" and len(constants) == 1:
                operand = next(side for side in sides if side is not constants[0])
                values[operand.signature].append((operand, constants))
            elif found.kind == "in" and all(link.role in ("0", "value") for link in found.links):
                constants = [link.term for link in found.links if link.role == "value"]
                values[sides[0].signature].append((sides[0], constants))
            else:
                parts.append(found)
        parts += [
            _membership(gathered[0][0], [one for _, some in gathered for one in some]) for gathered in values.values()
        ]
        return parts[0] if len(parts) == 1 else Term("or").add("part", *parts)

    def _in(self, node: exp.In) -> Term:
        operand = self.term(node.this)
        query = node.args.get("query")
        if query is not None:
            return Term("in").add("0", operand).add("query", self._query(query))
        values = [self.term(value) for value in node.expressions]
        if len(values) == 1 and values[0].kind == "scalar":
            return Term("in").add("0", operand).add("query", *(link.term for link in values[0].links))
        if not values:
            raise NoPlan("IN without a list or a query")
        return _membership(operand, values)

    def _not(self, node: exp.Not) -> Term:
        inner = node.this
        while isinstance(inner, exp.Paren):
            inner = inner.this
        if isinstance(inner, exp.Not):
            return self.term(inner.this)
        if opposite := _NEGATED.get(type(inner)):
            return self.term(opposite(this=inner.this, expression=inner.expression))
        if isinstance(inner, exp.And | exp.Between):
            return self._or_of([exp.Not(this=part) for part in _conjuncts(inner)])
        if isinstance(inner, exp.Or):
            return Term("and").add("part", *(self.term(exp.Not(this=part)) for part in _disjuncts(inner)))
        return Term("not").add("0", self.term(inner))

    def _or_of(self, parts: list[exp.Not]) -> Term:
        return Term("or").add("part", *(self.term(part) for part in parts))


def _membership(operand: Term, values: list[Term]) -> Term:
    distinct = list({value.signature: value for value in values}.values())
    if len(distinct) == 1:
        return Term("eq").add("part", operand, distinct[0])
    return Term("in").add("0", operand).add("value", *distinct)


def _conjuncts(condition: exp.Expr) -> Iterator[exp.Expr]:
    while isinstance(condition, exp.Paren):
        condition = condition.this
    if isinstance(condition, exp.And):
        yield from (part for side in condition.flatten() for part in _conjuncts(side))
    elif isinstance(condition, exp.Between) and not condition.args.get("symmetric"):
        yield exp.GTE(this=condition.this, expression=condition.args["low"])
        yield exp.LTE(this=condition.this, expression=condition.args["high"])
    elif isinstance(condition, exp.Not) and isinstance(inner := condition.this.unnest(), exp.Or):
        yield from (part for side in _disjuncts(inner) for part in _conjuncts(exp.Not(this=side)))
    else:
        yield condition


def _disjuncts(condition: exp.Or) -> Iterator[exp.Expr]:
    for side in condition.flatten():
        bare = side.unnest()
        if isinstance(bare, exp.Or):
            yield from _disjuncts(bare)
        else:
            yield bare


def _is_compared(literal: exp.Expr) -> bool:
    """Return whether its value alone counts: 5 and 5.0 compare alike, but divide differently."""
    above = literal.parent
    while isinstance(above, exp.Paren | exp.Neg):
        above = above.parent
    return isinstance(above, _COMPARED)


def _number(text: str, *, keeps_type: bool) -> str:
    """Return one spelling for each value: 5 and 05 are the same, and so is 5.0 unless its type counts."""
    try:
        value = float(text)
    except ValueError:
        return text.lower()
    if keeps_type and any(mark in text.lower() for mark in ".e"):
        return repr(value)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
