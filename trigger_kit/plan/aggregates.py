"""PLAN, path aggregates: one aggregate over one path, whose rows can be added, compared or looked up one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Avg, Count, Max, Min, Sum, Value, lookups
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Case, Col, CombinedExpression, ExpressionWrapper, Star
from django.db.models.fields import json
from django.db.models.functions import Abs, Cast, Length, Lower, Ord, StrIndex, Upper
from django.db.models.sql import AND, Query
from django.db.models.sql.where import WhereNode

from trigger_kit.expressions import Exists, First
from trigger_kit.resolve.columns import Path
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.resolve.sources import Joined, joins, nodes

__all__ = ["PathAggregate", "find_path_aggregate", "is_null_without"]


@dataclass(frozen=True, eq=False)
class PathAggregate:
    """One aggregate over one path: its function, what it aggregates, which rows it leaves out, and their order.

    ``aliases`` name the rows along the ``path`` in the rule's query, one per hop. ``argument`` is None where every row
    counts. ``default`` is a resolved expression without columns. The rows of the first ``required`` hops must be there;
    those behind them may be missing, as in ``First("reviews__author__name")``.
    """

    function: type[Aggregate]
    aliases: tuple[str, ...]
    path: Path
    argument: Any
    condition: Any
    default: Any
    order: Sequence[Any]
    required: int


def find_path_aggregate(resolved: ResolvedRule, aggregate: Any, default: Any) -> PathAggregate | None:
    """Return an aggregate of Django as a path aggregate, or None where its rows do not lie on one path."""
    function = type(aggregate)
    if function not in {Avg, Count, Exists, First, Max, Min, Sum} or getattr(aggregate, "distinct", False):
        return None
    joined = joins(resolved.query)
    if not _is_line(resolved, joined) or any(isinstance(node, Query) for node in nodes(aggregate)):
        return None
    found = PathAggregate(
        function=function,
        aliases=tuple(join.alias for join in joined),
        path=tuple(join.hop for join in joined),
        argument=_argument(aggregate, joined),
        condition=getattr(aggregate.filter, "condition", aggregate.filter),
        default=default,
        order=aggregate.order if isinstance(aggregate, First) else (),
        required=_required(aggregate, joined),
    )
    base = resolved.query.get_initial_alias()
    parts = [found.argument, found.condition, *found.order]
    reads_target = any(isinstance(node, Col) and node.alias == base for node in nodes(parts))
    return None if reads_target or not _leaves_out_missing_rows(found, aggregate) else found


def _is_line(resolved: ResolvedRule, joined: list[Joined]) -> bool:
    """Whether the joins lead away from the target one after the other, over different tables."""
    if not joined or not joined[0].hop.near_is_unique:
        return False
    aliases = [resolved.query.get_initial_alias(), *(join.alias for join in joined)]
    in_order = all(join.parent == parent for join, parent in zip(joined, aliases, strict=False))
    tables = [join.hop.table for join in joined]
    others = [*tables, resolved.column.table] if len(tables) > 1 else tables
    return in_order and len(set(others)) == len(others)


def _required(aggregate: Any, joined: list[Joined]) -> int:
    """Return how many hops of a path a row must have; that of a First ends at the row whose key breaks ties."""
    if not isinstance(aggregate, First):
        return len(joined)
    key: Any = aggregate.order[-1].expression
    return 1 + [join.alias for join in joined].index(key.alias)


def _argument(aggregate: Any, joined: list[Joined]) -> Any:
    """Return what is aggregated, or None where a row is counted by its own primary key."""
    argument = aggregate.get_source_expressions()[0]
    if isinstance(argument, Star):
        return None
    is_key = isinstance(argument, Col) and argument.alias == joined[-1].alias and argument.target.primary_key
    return None if is_key and isinstance(aggregate, (Count, Exists)) else argument


def _leaves_out_missing_rows(found: PathAggregate, aggregate: Any) -> bool:
    """Whether a row that ends before the last hop counts for nothing, so that arrivals there can only add.

    A LEFT JOIN gives such a row NULLs. The argument or the filter must be NULL or false over them.
    """
    last = found.aliases[-1]
    argument = aggregate.get_source_expressions()[0]
    if len(found.aliases) == 1 and found.argument is None:
        return True
    if found.function is First or is_null_without(argument, last):
        return True
    return any(is_null_without(lookup, last) for lookup in _conjuncts(found.condition))


# NULL ---------------------------------------------------------------------------------------------------------------


def is_null_without(node: Any, alias: str) -> bool:
    """Whether an expression is NULL where the row of an alias is missing; in doubt it is not."""
    if isinstance(node, Col):
        return bool(node.alias == alias)
    if isinstance(node, lookups.BuiltinLookup):
        strict = not isinstance(node, lookups.IsNull) and type(node).__module__ != json.__name__
        return strict and is_null_without(node.lhs, alias)
    if isinstance(node, (Abs, Cast, CombinedExpression, ExpressionWrapper, Length, Lower, Ord, StrIndex, Upper)):
        return any(is_null_without(child, alias) for child in node.get_source_expressions())
    if isinstance(node, Case):  # NULL where no condition holds and there is no default
        return _is_null(node.default) and all(_is_passed_over(case, alias) for case in node.cases)
    return False


def _is_null(node: Any) -> bool:
    return isinstance(node, Value) and node.value is None


def _is_passed_over(case: Any, alias: str) -> bool:
    """Whether a branch of a Case gives NULL, or does not apply, where the row of an alias is missing."""
    conditions = [case.condition, *_conjuncts(case.condition)]
    return is_null_without(case.result, alias) or any(is_null_without(item, alias) for item in conditions)


def _conjuncts(condition: Any) -> list[Any]:
    """Return the parts of a filter that all have to hold."""
    if isinstance(condition, WhereNode):
        if condition.negated or condition.connector != AND:
            return []
        return [part for child in condition.children for part in _conjuncts(child)]
    return [] if condition is None else [condition]
