"""RESOLVE: which rows a resolved expression reads, and how the target is found from them.

Every table that the expression joins or that a subquery of it names is an *occurrence*. Joins and the equalities at
the top of a subquery's WHERE link occurrences; the shortest way of links from the target's row is the path of hops.
A trigger walks it backwards: from a changed row to the targets that read it. Rows reached under the path as it is now
are enough, because a change of the path itself fires the triggers of the tables that it leads through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import Field, Model
from django.db.models.expressions import Col, ColPairs
from django.db.models.lookups import Exact, In, Lookup
from django.db.models.sql import AND, Query
from django.db.models.sql.datastructures import Join
from django.db.models.sql.where import WhereNode

from trigger_kit.resolve.columns import ContentType, Hop, Path, Source, make_hop, offline_connection

__all__ = ["Joined", "UnlinkedTableError", "UnreadableQueryError", "children", "joins", "nodes", "read_sources"]


class UnlinkedTableError(Exception):
    """An expression reads a table that no equality links to the target."""

    def __init__(self, model: type[Model]) -> None:
        super().__init__(model._meta.label)
        self.model = model


class UnreadableQueryError(Exception):
    """A subquery has a part whose columns Django does not know."""


# Nodes --------------------------------------------------------------------------------------------------------------


def nodes(node: Any) -> Iterator[Any]:
    """Yield a resolved expression's nodes and constants, itself first, those of subqueries too."""
    if node is None:
        return
    if not isinstance(node, (list, tuple)):
        yield node
    for child in children(node):
        yield from nodes(child)


def children(node: Any) -> list[Any]:
    """Return what a node consists of."""
    if isinstance(node, (list, tuple)):
        return list(node)
    if isinstance(node, Query):
        return _parts(node)[1]
    if isinstance(node, WhereNode):
        return list(node.children)
    if isinstance(node, Lookup):
        return [node.lhs, node.rhs]
    if hasattr(node, "get_source_expressions"):
        return [child for child in node.get_source_expressions() if child is not None]
    return []


def _parts(query: Query) -> tuple[Query, list[Any]]:
    """Return a subquery as it is compiled, and its expressions: what it selects, filters and orders by."""
    if query.distinct_fields:
        raise UnreadableQueryError
    clone = query.clone()
    compiler = clone.get_compiler(connection=offline_connection())
    try:
        _, order_by, _ = compiler.pre_sql_setup()
    except EmptyResultSet:
        return clone, []
    selected = [expression for expression, *_ in compiler.select]
    ordered = [expression for expression, _ in order_by]
    filters = [part for part in (clone.where, compiler.having, compiler.qualify) if part is not None]
    return clone, [*selected, *filters, *ordered]


# Joins --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Joined:
    """A join of the expression's own query; ``is_optional`` where the row may be missing."""

    alias: str
    parent: str
    model: type[Model]
    hop: Hop
    is_optional: bool


def joins(query: Query) -> list[Joined]:
    """Return the joins of a query in their order."""
    return [
        Joined(alias, str(join.parent_alias), joined_model(join), join_hop(join), join.join_type == "LEFT OUTER JOIN")
        for alias, join in query.alias_map.items()
        if query.alias_refcount[alias] and isinstance(join, Join)
    ]


def joined_model(join: Join) -> type[Model]:
    """Return the model that a join leads to."""
    relation: Any = join.join_field
    pairs: Any = vars(join)["join_fields"]
    # The row of an inherited column lies in the parent's table.
    models: list[Any] = [pairs[0][1].model, relation.related_model, relation.model]
    model = next(m for m in models if m._meta.db_table == join.table_name)
    concrete: type[Model] = model._meta.concrete_model
    return concrete


def _base_model(query: Query, table: str) -> type[Model]:
    """Return the model of a query's first table; where Django has turned an exclude() round, that of a related one."""
    own: Any = query.get_meta().concrete_model
    if own._meta.db_table == table:
        return own  # type: ignore[no-any-return]
    models = own._meta.apps.get_models(include_auto_created=True)
    found = next((m for m in models if m._meta.db_table == table and not m._meta.proxy), None)
    if found is None:
        raise UnreadableQueryError
    return found  # type: ignore[no-any-return]


def join_hop(join: Join) -> Hop:
    """Return a join as a hop."""
    pairs: Any = vars(join)["join_fields"]
    near, far = zip(*pairs, strict=True)
    return make_hop(near, far, _content_type(join))


def _content_type(join: Join) -> ContentType | None:
    """Return what a generic relation's join asks of the rows that point."""
    relation: Any = getattr(join.join_field, "field", join.join_field)
    if not hasattr(relation, "content_type_field_name"):
        return None
    is_near = relation is join.join_field  # The way back, from the rows that point.
    rows = relation.remote_field.model
    content_type = rows._meta.get_field(relation.content_type_field_name)
    owner = relation.model._meta.concrete_model if relation.for_concrete_model else relation.model
    return ContentType(
        column=content_type.column,
        app_label=owner._meta.app_label,
        model=owner._meta.model_name,
        is_near=is_near,
        table=content_type.related_model._meta.db_table,
    )


# Occurrences --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Occurrence:
    """One appearance of a table: the columns read there, and its links to others."""

    model: type[Model]
    columns: set[str] = field(default_factory=set)
    links: list[tuple[Hop, Occurrence]] = field(default_factory=list)


Scope = dict[str, Occurrence]


def read_sources(query: Query, expression: Any) -> tuple[Source, ...]:
    """Return the sources that an expression of a query reads, the target's own row first.

    Raises UnlinkedTableError where the target cannot be found from a source, UnreadableQueryError for subqueries that
    do not say what they read.
    """
    reader = _Reader()
    reader.enter(query, [expression], {})
    base = reader.occurrences[0]
    paths = _paths(base)
    columns: dict[tuple[Path, type[Model]], set[str]] = {}
    for occurrence in reader.occurrences:
        if occurrence not in paths:
            raise UnlinkedTableError(occurrence.model)
        columns.setdefault((paths[occurrence], occurrence.model), set()).update(occurrence.columns)
    return tuple(Source(model, path, tuple(sorted(names))) for (path, model), names in columns.items())


def _paths(base: Occurrence) -> dict[Occurrence, Path]:
    """Return the shortest path from the target's row to every occurrence that links reach."""
    paths: dict[Occurrence, Path] = {base: ()}
    queue = deque([base])
    while queue:
        occurrence = queue.popleft()
        for hop, other in occurrence.links:
            if other not in paths:
                paths[other] = (*paths[occurrence], hop)
                queue.append(other)
    return paths


class _Reader:
    """Collects the occurrences of an expression and of its subqueries."""

    def __init__(self) -> None:
        self.occurrences: list[Occurrence] = []

    def enter(self, query: Query, expressions: list[Any], outer: Scope) -> Scope:
        """Read a query and what it consists of; names that it does not know belong to the query around it."""
        scope = dict(outer)
        for alias, table in query.alias_map.items():
            if not query.alias_refcount[alias]:
                continue
            model = joined_model(table) if isinstance(table, Join) else _base_model(query, str(table.table_name))
            scope[alias] = self._occurrence(model)
            if isinstance(table, Join):
                self._join(table, scope)
        for expression in expressions:
            self._read(expression, scope)
        return scope

    def _occurrence(self, model: Any) -> Occurrence:
        occurrence = Occurrence(model)
        self.occurrences.append(occurrence)
        return occurrence

    def _join(self, join: Join, scope: Scope) -> None:
        near, far = scope[str(join.parent_alias)], scope[str(join.table_alias)]
        pairs: Any = vars(join)["join_fields"]
        self._link(near, far, [a for a, _ in pairs], [b for _, b in pairs], _content_type(join))
        if join.filtered_relation is not None:
            self._read(join.filtered_relation.resolved_condition, scope)  # type: ignore[attr-defined]

    def _link(
        self,
        near: Occurrence,
        far: Occurrence,
        near_fields: list[Field[Any, Any]],
        far_fields: list[Field[Any, Any]],
        content_type: ContentType | None = None,
    ) -> None:
        """Link two occurrences both ways; a generic relation leads one way only."""
        hop = make_hop(tuple(near_fields), tuple(far_fields), content_type)
        near.columns |= set(hop.near_names)
        far.columns |= set(hop.far_names)
        near.links.append((hop, far))
        if content_type is None:
            far.links.append((make_hop(tuple(far_fields), tuple(near_fields)), near))

    def _read(self, node: Any, scope: Scope) -> None:
        """Note the columns of a node in their occurrences, and enter subqueries."""
        if isinstance(node, Query):
            self._read_subquery(node, scope)
            return
        if isinstance(node, Col):
            if node.alias in scope:
                scope[node.alias].columns.add(str(node.target.column))
            return
        if isinstance(node, In) and isinstance(node.rhs, Query):
            inner = self._read_subquery(node.rhs, scope)
            self._link_equal(node.lhs, node.rhs.select[0] if node.rhs.select else None, inner)
            self._read(node.lhs, scope)
            return
        if node is not None:
            for child in children(node):
                self._read(child, scope)

    def _read_subquery(self, query: Query, outer: Scope) -> Scope:
        clone, expressions = _parts(query)
        scope = self.enter(clone, expressions, outer)
        for lookup in _requirements(clone.where):
            self._link_equal(lookup.lhs, lookup.rhs, scope)
        return scope

    def _link_equal(self, left: Any, right: Any, scope: Scope) -> None:
        """Link two columns, or two composite keys, that are demanded to be equal."""
        if not isinstance(left, (Col, ColPairs)) or not isinstance(right, (Col, ColPairs)):
            return
        near, far = scope.get(left.alias), scope.get(right.alias)
        if near is not None and far is not None and near is not far:
            self._link(near, far, _targets(left), _targets(right))


def _targets(node: Col | ColPairs) -> list[Any]:
    return [node.target] if isinstance(node, Col) else list(node.targets)


def _requirements(where: Any) -> Iterator[Any]:
    """Yield the equalities that every row of a query fulfils."""
    if isinstance(where, WhereNode):
        if where.connector == AND and not where.negated:
            for child in where.children:
                yield from _requirements(child)
    elif isinstance(where, Exact):
        yield where
