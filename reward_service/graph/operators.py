"""A resolved query as a relational operator graph: scans, joins, filters, aggregates, sorts, expressions (pure).

The graphs follow the relational operator trees of Graph-Reward-SQL (arXiv 2505.12380) and FuncEvalGMN (arXiv
2407.14530), which take them from Calcite. Conditions of inner joins stand together with those of WHERE, since they mean
the same there; a column of a derived table or CTE is the expression that makes it; a column of a table is one node with
an edge to its scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlglot import exp

from floe.reward_service.graph.ctes import ctes_of, used_ctes
from floe.reward_service.graph.expressions import ExpressionTerms
from floe.reward_service.graph.plan import NoPlan
from floe.reward_service.graph.terms import INPUT, OF, Term

_OUTER_SIDES = ("LEFT", "RIGHT", "FULL")


class Piece(NamedTuple):
    """A part of a query's structure: what an operator of this role does, wherever its rows come from."""

    role: str
    expression: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An operator and the columns that leave it, by name."""

    operator: Term
    columns: Mapping[str, Term]
    own_columns: frozenset[str] = frozenset()  # columns of a scan: those in the schema


@dataclass(frozen=True, slots=True)
class Operators:
    """A whole query; `steps` holds the pieces of each CTE of the outermost WITH, in order, and of the rest last."""

    root: Term
    steps: tuple[tuple[Piece, ...], ...]


def operators(query: exp.Query, tables: Mapping[str, frozenset[str]]) -> Operators:
    """Return the query's operators; `tables` has the columns of each, in lower case.

    Raises NoPlan for sources that are neither of these tables nor queries, and for misplaced aggregates.
    """
    builder = _Builder(tables)
    plan = builder.statement(query)
    return Operators(plan.operator, tuple(tuple(step) for step in builder.steps))


@dataclass(slots=True)
class _Scope:
    """The sources of one SELECT by alias, and what it can see of those around it."""

    around: _Scope | None
    sources: dict[str, Plan] = field(default_factory=dict)
    columns: dict[tuple[str, str], Term] = field(default_factory=dict)  # columns of tables, made once each

    def find(self, alias: str, name: str) -> Term:
        scope: _Scope | None = self
        while scope is not None:
            if plan := scope.sources.get(alias):
                if name in plan.columns:
                    return plan.columns[name]
                if plan.operator.kind == "scan" and name not in plan.own_columns:
                    raise NoPlan(f"table {plan.operator.name} has no column {name}")
                made = Term("column", name, plan.operator.name).add(OF, plan.operator)
                return scope.columns.setdefault((alias, name), made)
            scope = scope.around
        raise NoPlan(f"column {alias}.{name} belongs to no source")


class _Builder:
    def __init__(self, tables: Mapping[str, frozenset[str]]) -> None:
        self._tables = tables
        self.steps: list[list[Piece]] = [[]]
        self._depth = 0

    def statement(self, query: exp.Query) -> Plan:
        """Return the outermost query's plan: each CTE of its WITH is a step."""
        ctes: dict[str, Plan] = {}
        self._depth += 1
        used = used_ctes(query)
        for cte in ctes_of(query):
            self._add_cte(cte, ctes, None)
            if cte.alias.lower() not in used:
                self.steps[-1].clear()  # a CTE from which nothing is made is no step towards the answer
            self.steps.append([])
        self._depth -= 1
        return self._body(query, ctes, None)

    def _query(self, query: exp.Query, ctes: Mapping[str, Plan], around: _Scope | None) -> Plan:
        known = dict(ctes)
        self._depth += 1
        for cte in ctes_of(query):
            self._add_cte(cte, known, around)
        plan = self._body(query, known, around)
        self._depth -= 1
        return plan

    def _add_cte(self, cte: exp.CTE, known: dict[str, Plan], around: _Scope | None) -> None:
        name = cte.alias.lower()
        known[name] = Plan(Term("recursion", name), {})  # what the CTE itself sees, where it names itself
        plan = self._query(cte.this, known, around)
        known[name] = Plan(plan.operator, _renamed(plan.columns, cte.args.get("alias")))

    def _body(self, query: exp.Query, ctes: Mapping[str, Plan], around: _Scope | None) -> Plan:
        if isinstance(query, exp.Subquery):
            inner = (
                self._query(query.this, ctes, around) if ctes_of(query.this) else self._body(query.this, ctes, around)
            )
            return self._ended(query, inner, self._terms_of_outputs(inner, ctes, around))
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, ctes, around)
        if isinstance(query, exp.Select):
            return self._select(query, ctes, around)
        raise NoPlan(f"{type(query).__name__} is not supported")

    def _set_operation(self, query: exp.SetOperation, ctes: Mapping[str, Plan], around: _Scope | None) -> Plan:
        sides = [self._body(side, ctes, around) for side in (query.this, query.expression)]
        kind = query.key if query.args.get("distinct", True) else f"{query.key}_all"
        self._note(kind, Term(kind))
        operator = Term(kind)
        for index, side in enumerate(sides):
            operator.add(f"{INPUT}{index}" if isinstance(query, exp.Except) else INPUT, side.operator)
        plan = Plan(operator, sides[0].columns)
        return self._ended(query, plan, self._terms_of_outputs(plan, ctes, around))

    def _select(self, select: exp.Select, ctes: Mapping[str, Plan], around: _Scope | None) -> Plan:
        scope = _Scope(around)
        terms = ExpressionTerms(
            lambda column: scope.find(column.table.lower(), column.name.lower()),
            lambda query: self._query(query, ctes, scope).operator,
            None,
        )
        rows, conditions = self._sources(select, ctes, scope, terms)
        _refuse_aggregates(select)
        if where := select.args.get("where"):
            conditions += terms.conjuncts(where.this)
        rows = self._filtered("filter", rows, conditions)
        rows = self._aggregated(select, rows, terms)
        if having := select.args.get("having"):
            rows = self._filtered("having", rows, terms.conjuncts(having.this))
        project = Term("project").add(INPUT, rows)
        columns: dict[str, Term] = {}
        for index, item in enumerate(select.expressions):
            made = terms.term(item)
            project.add(f"item{index}", made)
            columns.setdefault(item.alias_or_name.lower(), made)
            if self._depth == 0:
                self._note("item", made)
        if select.args.get("distinct"):
            self._note("distinct", Term("distinct"))
            project = Term("distinct").add(INPUT, project)
        known = ExpressionTerms(
            lambda column: (
                (columns.get(column.name.lower()) if not column.table else None)
                or scope.find(column.table.lower(), column.name.lower())
            ),
            lambda query: self._query(query, ctes, scope).operator,
            terms.rows,
        )
        return self._ended(select, Plan(project, columns), known)

    def _sources(
        self, select: exp.Select, ctes: Mapping[str, Plan], scope: _Scope, terms: ExpressionTerms
    ) -> tuple[Term, list[Term]]:
        """Return the joined rows, and the conditions of inner joins."""
        origin = select.args.get("from_") or select.args.get("from")
        if origin is None:
            return Term("nothing"), []
        joins = select.args.get("joins") or ()
        sources = [self._source(one.this, ctes, scope) for one in (origin, *joins)]  # ON may name a later one
        inputs, conditions = sources[:1], []
        for join, source in zip(joins, sources[1:], strict=True):
            side = (join.args.get("side") or "").upper()
            inputs.append(source)
            on = join.args.get("on")
            found = [] if on is None else terms.conjuncts(on)
            if side in _OUTER_SIDES:
                kind = side.lower()
                outer = Term("join", kind).add("left", *inputs[:-1]).add("right", inputs[-1]).add("on", *found)
                self._note(f"{kind} join", Term("on").add("part", *found))
                inputs = [outer]
            else:
                conditions += found
        return (inputs[0] if len(inputs) == 1 else Term("join", "inner").add(INPUT, *inputs)), conditions

    def _source(self, source: exp.Expr, ctes: Mapping[str, Plan], scope: _Scope) -> Term:
        alias = source.alias_or_name.lower()
        if isinstance(source, exp.Table) and source.args.get("joins"):
            raise NoPlan("joins within parentheses are not supported")
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            name = source.name.lower()
            plan = ctes.get(name)
            if plan is None:
                if name not in self._tables or source.db.lower() not in ("", "main"):
                    raise NoPlan(f"there is no table {source.sql()}")
                plan = Plan(Term("scan", name), {}, self._tables[name])
                self._note("scan", plan.operator)
        elif isinstance(source, exp.Subquery):
            inner = self._query(source.this, ctes, scope.around)
            plan = Plan(inner.operator, _renamed(inner.columns, source.args.get("alias")))
        else:
            raise NoPlan(f"{type(source).__name__} is not supported as a source")
        scope.sources[alias] = plan
        return plan.operator

    def _filtered(self, kind: str, rows: Term, conditions: list[Term]) -> Term:
        # A condition that stands twice holds once.
        distinct = {condition.signature: condition for condition in conditions}.values()
        for condition in distinct:
            self._note("condition", condition)
        return Term(kind).add(INPUT, rows).add("condition", *distinct) if distinct else rows

    def _aggregated(self, select: exp.Select, rows: Term, terms: ExpressionTerms) -> Term:
        group = select.args.get("group")
        if group is None and not any(_has_aggregate(part) for part in _outputs(select)):
            return rows
        keys = [terms.term(key) for key in (group.expressions if group else ())]
        for key in keys:
            self._note("key", key)
        terms.rows = Term("aggregate").add(INPUT, rows).add("key", *keys)
        return terms.rows

    def _ended(self, query: exp.Query, plan: Plan, terms: ExpressionTerms) -> Plan:
        """Return the plan with ORDER BY and LIMIT."""
        operator = plan.operator
        if order := query.args.get("order"):
            operator = Term("sort").add(INPUT, operator)
            for index, ordered in enumerate(order.expressions):
                is_descending = bool(ordered.args.get("desc"))
                nulls_first = ordered.args.get("nulls_first")
                is_usual = nulls_first is None or nulls_first is not is_descending
                key = Term("desc" if is_descending else "asc", "" if is_usual else "nulls").add(
                    "0", terms.term(ordered.this)
                )
                operator.add(f"key{index}", key)
                self._note("sort", key)
        if limit := query.args.get("limit"):
            operator = Term("limit").add(INPUT, operator).add("count", terms.term(limit.expression))
            if offset := query.args.get("offset"):
                operator.add("offset", terms.term(offset.expression))
            self._note("limit", Term("limit").add("part", *(link.term for link in operator.links[1:])))
        return plan if operator is plan.operator else Plan(operator, plan.columns)

    def _terms_of_outputs(self, plan: Plan, ctes: Mapping[str, Plan], around: _Scope | None) -> ExpressionTerms:
        def output(column: exp.Column) -> Term:
            if column.name.lower() in plan.columns:
                return plan.columns[column.name.lower()]
            raise NoPlan(f"{column.name} is no column of the result that is ordered by it")

        return ExpressionTerms(output, lambda query: self._query(query, ctes, around).operator, None)

    def _note(self, role: str, term: Term) -> None:
        self.steps[-1].append(Piece(role, term.expression))


def _renamed(columns: Mapping[str, Term], alias: exp.TableAlias | None) -> Mapping[str, Term]:
    """Return the columns under the names that `q(a, b)` gives them."""
    names = [one.name.lower() for one in alias.columns] if isinstance(alias, exp.TableAlias) else []
    return dict(zip(names, columns.values(), strict=False)) if names else columns


def _outputs(select: exp.Select) -> Iterator[exp.Expr]:
    yield from select.expressions
    for place in ("having", "order"):
        if part := select.args.get(place):
            yield part


def _refuse_aggregates(select: exp.Select) -> None:
    places = [select.args.get(place) for place in ("where", "group")]
    places += [join.args.get("on") for join in select.args.get("joins") or ()]
    if any(place is not None and _has_aggregate(place) for place in places):
        raise NoPlan("an aggregate stands in WHERE, ON or GROUP BY")


def _has_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.AggFunc):
        return True
    if isinstance(node, exp.Query | exp.Window):
        return False
    return any(_has_aggregate(child) for child in node.iter_expressions())
