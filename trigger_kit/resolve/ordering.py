"""PLAN, first question, continued: which of several rows, and in which order.

A list, a text or one row out of many is a function of the rows only if no tie is left open. Rows tie in what they are
ordered by; the value is the same for all that tie where the order *determines* it: names its row by a unique column,
or a row that points at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import lookups
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Col, Ref
from django.db.models.functions import Random
from django.db.models.sql import Query

from trigger_kit.resolve.columns import is_loose, make_hop, offline_connection
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.resolve.sources import Joined, children, joins, nodes

__all__ = ["Problem", "check_order", "check_single", "check_subquery"]

# A check's number, the reason, what to do.
Problem = tuple[str, str, str]
_ORDERED_AGGREGATES = ("ArrayAgg", "StringAgg", "JSONBAgg")


def check_order(aggregate: Any, query: Query, *, is_result: bool) -> Problem | None:
    """Refuse aggregates over a sequence whose order ties leave open.

    ``is_result`` says that nothing else is made of the value, so that it need be told apart as its own type does only.
    """
    kind = type(aggregate).__name__
    if kind == "AnyValue":
        return "E027", "AnyValue takes any of the rows", "Use Min(), Max() or First('…', order_by=…)."
    if kind not in _ORDERED_AGGREGATES:
        return None
    order: Any = aggregate.order_by
    keys = [getattr(item, "expression", item) for item in order.get_source_expressions()] if order is not None else []
    fixed = {str(query.get_initial_alias())}
    if all(_is_determined(item, query, keys, fixed, by_itself=is_result) for item in aggregate.source_expressions):
        return None
    problem = f"the order of {kind} is not total: rows that tie may come either way round"
    return "E027", problem, "Order by a unique column as well, such as order_by=('…__name', '…__pk')."


def check_single(resolved: ResolvedRule) -> Problem | None:
    """Refuse columns of many related rows that no aggregate makes one value of."""
    query = resolved.query
    single = _determined_aliases(query, {}, {str(query.get_initial_alias())})
    many = {join.alias: join.model for join in joins(query) if join.alias not in single}
    column = next((node for node in _outside_aggregates(resolved.expression) if node.alias in many), None)
    if column is None:
        return None
    problem = f"it reads {column.target.name} of many rows of {many[column.alias]._meta.label}, and says not which"
    return "E028", problem, "Make one value of them: Max('…'), Exists('…', filter=…), First('…', order_by=…)."


def _outside_aggregates(node: Any) -> Iterator[Col]:
    if isinstance(node, Col):
        yield node
    elif not isinstance(node, Aggregate):
        for child in children(node):
            yield from _outside_aggregates(child)


def _is_determined(node: Any, query: Query, keys: list[Any], fixed: set[str], *, by_itself: bool) -> bool:
    """Whether an expression has one value in all rows of a query that agree in some keys and aliases.

    Keys whose equal values may differ in their text (1 and 1.0) tell their rows apart ``by_itself`` only: nothing that
    is made of them follows from them.
    """
    if node in keys and (by_itself or not _is_loose(node)):
        return True
    columns = {(str(key.alias), str(key.target.column)): key.target for key in keys if isinstance(key, Col)}
    aliases = _determined_aliases(query, columns, fixed)
    telling = {name for name, field in columns.items() if not is_loose(field)}
    return all(
        (item.alias in aliases or (item.alias, item.target.column) in telling)
        for item in nodes(node)
        if isinstance(item, Col)
    )


def _is_loose(node: Any) -> bool:
    try:
        return is_loose(node.output_field)
    except FieldError:
        return True


def _determined_aliases(query: Query, columns: dict[tuple[str, str], Any], fixed: set[str]) -> set[str]:
    """Return the aliases whose row is the same one, or missing, wherever some columns are equal.

    A unique column names its row, a row those that it points at, and the row of a join that must exist its parent. Of
    the rows that point at one, the columns that do are equal as well, so that a number within the parent names a row.
    """
    links = joins(query)
    found, known = set(fixed), dict(columns)
    while True:
        known |= _pointing(links, found)
        more = _named_rows(known) | _joined_rows(links, found, known)
        if more <= found:
            return found
        found |= more


def _pointing(links: list[Joined], found: set[str]) -> dict[tuple[str, str], Any]:
    """Return the columns by which joined rows point at rows that are known."""
    pointing: dict[tuple[str, str], Any] = {}
    for join in links:
        if join.parent in found and not join.hop.far_is_unique:
            names = {column.name for column in join.hop.far}
            fields = [field for field in join.model._meta.concrete_fields if field.column in names]
            # A row that is joined has a value there, though the column may be NULL in others.
            pointing |= {(join.alias, str(field.column)): _Joining(field) for field in fields}
    return pointing


class _Joining:
    """A field that is not NULL in the rows of a join."""

    null = False

    def __init__(self, field: Any) -> None:
        self.field = field


def _named_rows(columns: dict[tuple[str, str], Any]) -> set[str]:
    """Return the aliases that have a unique key among some columns."""
    named = set()
    for alias in {alias for alias, _ in columns}:
        given = [field for (owner, _), field in columns.items() if owner == alias and not _is_nullable(field)]
        fields = tuple(field.field if isinstance(field, _Joining) else field for field in given)
        if fields and make_hop(fields, fields).near_is_unique:
            named.add(alias)
    return named


def _joined_rows(links: list[Joined], found: set[str], columns: dict[tuple[str, str], Any]) -> set[str]:
    """Return the aliases that a known row, or known columns, point at, and the parents of known rows."""
    forward = {
        join.alias
        for join in links
        if join.hop.far_is_unique
        and (join.parent in found or all((join.parent, column.name) in columns for column in join.hop.near))
    }
    return forward | {
        join.parent for join in links if join.alias in found and join.hop.near_is_unique and not join.is_optional
    }


def _is_nullable(field: Any) -> bool:
    """Whether several rows can be without a value in a unique column."""
    return bool(field.null or getattr(field, "generated", False))


def check_subquery(query: Any, parent: Any, *, is_result: bool) -> Problem | None:
    """Refuse subqueries that may give several rows, or some of several in no total order."""
    by_itself = is_result or isinstance(parent, lookups.In)
    gives_all = isinstance(parent, lookups.In) and not query.is_sliced
    if type(parent).__name__ == "Exists" or gives_all:
        return None
    compiler = query.clone().get_compiler(connection=offline_connection())
    compiler.setup_query()
    orders = [_referred(item.expression) for item, _ in compiler.get_order_by()]
    if any(isinstance(order, Random) for order in orders):
        return "E020", "it takes rows at random", "Order by columns."
    query = compiler.query
    is_grouped = query.group_by is not None or any(a.contains_aggregate for a in query.annotation_select.values())
    # A group is one row, and the columns that it is grouped by tell it from others.
    values = _group_keys(query) if is_grouped else [expression for expression, *_ in compiler.select]
    if not (isinstance(parent, lookups.In) or type(parent).__name__ == "ArraySubquery"):
        if _gives_one(query, values, is_grouped):
            return None
        if not query.is_sliced or query.high_mark is None or query.high_mark - query.low_mark != 1:
            return _several(is_grouped)
    keys = [*orders, *_fixed_columns(query).values()]
    if all(_is_determined(value, query, keys, set(), by_itself=by_itself) for value in values):
        return None
    problem = "the order of a subquery is not total: which of the rows that tie comes first is left open"
    return "E027", problem, "Order by a unique column as well: .order_by('-created', '-pk')."


def _several(is_grouped: bool) -> Problem:
    if is_grouped:
        hint = "Group by what is compared with OuterRef: .order_by().values('author').annotate(…)."
        return "E028", "a subquery may give several groups", hint
    return "E028", "a subquery may give several rows", "Take one: .order_by('-created', '-pk').values('title')[:1]."


def _referred(node: Any) -> Any:
    """Return what a name of a selected column stands for."""
    return node.get_source_expressions()[0] if isinstance(node, Ref) else node


def _gives_one(query: Query, values: list[Any], is_grouped: bool) -> bool:
    """Whether what a query's filters fix leaves at most one row, or one group."""
    columns, rows = _fixed_columns(query), set[str]()
    if is_grouped:
        fixed = list(columns.values())
        return all(_is_determined(value, query, fixed, rows, by_itself=True) for value in values)
    targets = {key: column.target for key, column in columns.items()}
    found = _determined_aliases(query, targets, rows)
    return {alias for alias in query.alias_map if query.alias_refcount[alias]} <= found


def _group_keys(query: Any) -> list[Any]:
    if query.group_by is None:
        return []
    return list(query.select) if query.group_by is True else list(query.group_by)


def _fixed_columns(query: Query) -> dict[tuple[str, str], Any]:
    """Return the columns of a query that an equality at the top of its WHERE fixes."""
    fixed = {}
    for lookup in query.where.children if query.where.connector == "AND" and not query.where.negated else []:
        if isinstance(lookup, lookups.Exact) and isinstance(lookup.lhs, Col):
            rhs_is_own = isinstance(lookup.rhs, Col) and lookup.rhs.alias in query.alias_map
            if not rhs_is_own:
                fixed[str(lookup.lhs.alias), str(lookup.lhs.target.column)] = lookup.lhs
    return fixed
