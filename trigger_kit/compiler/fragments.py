"""SQL fragments of measures: conditions, aggregates over rows, signed deltas over transition tables, full values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db.models import Count
from django.db.models.expressions import Col
from django.utils import timezone

from trigger_kit.compiler.text import block, escape_braces, literal, quote, table_placeholder
from trigger_kit.measures import Measure
from trigger_kit.planner import Edge, Feed
from trigger_kit.relations import nodes, offline_connection

__all__ = [
    "condition_sql",
    "differs",
    "full_value",
    "full_values",
    "refill",
    "source_columns",
    "update_from",
    "values_select",
]


def condition_sql(measure: Measure, alias: str = "source") -> str | None:
    """Return the rule's filter over an alias of the source, or None where every row passes."""
    if measure.condition is None:
        return None
    try:
        return _compile(measure, measure.condition, alias)
    except FullResultSet:
        return None
    except EmptyResultSet:
        return "false"


def argument_sql(measure: Measure, alias: str = "source") -> str | None:
    """Return the aggregated column over an alias of the source, or None where every row counts."""
    return None if measure.argument is None else _compile(measure, measure.argument, alias)


def _compile(measure: Measure, node: Any, alias: str) -> str:
    """Compile a resolved node with Django's compiler, its parameters written into the text."""
    connection = offline_connection()
    relabeled = node.relabeled_clone({measure.resolved.source_alias: alias})
    # Parts of times are in the project's time zone, whatever zone the current request has activated.
    with timezone.override(None):
        text, parameters = measure.resolved.query.get_compiler(connection=connection).compile(relabeled)
    return escape_braces(str(text) % tuple(literal(parameter) for parameter in parameters))


def filter_clause(*conditions: str | None) -> str:
    """Return a FILTER clause of the conditions that are given, or nothing."""
    given = [condition for condition in conditions if condition]
    return f" FILTER (WHERE {' AND '.join(given)})" if given else ""


def is_present(measure: Measure, alias: str = "source") -> str | None:
    """Return the condition under which a row's argument counts, or None where it always does."""
    argument = argument_sql(measure, alias)
    return None if argument is None else f"{argument} IS NOT NULL"


def full_value(measure: Measure) -> str:
    """Return the rule's aggregate over source rows: its value, as annotate() computes it."""
    argument = argument_sql(measure)
    where = filter_clause(condition_sql(measure))
    if measure.aggregate is Count:
        return f"count({argument or '*'}){where}"
    total = f"sum({argument}){where}"
    return total if measure.null_when_empty else f"coalesce({total}, 0)"


def full_values(measures: Iterable[Measure]) -> str:
    """Return the aggregates of several measures, one to a line, each named as its column."""
    return ",\n".join(f"{full_value(measure)} AS {quote(measure.column)}" for measure in measures)


def values_select(edge: Edge, feed: Feed, key: str) -> str:
    """Return the SELECT of a feed's values for one key, given as an SQL expression."""
    return (
        f"SELECT\n{block(full_values(feed.measures))}\n"
        f"FROM {table_placeholder(edge.source)} AS source\n"
        f"WHERE source.{quote(feed.hop.source.name)} = {key}"
    )


def source_columns(feed: Feed) -> list[str]:
    """Return the columns of the source that a feed reads, its foreign key first."""
    parts = [part for measure in feed.measures for part in (measure.argument, measure.condition)]
    names = {str(node.target.column) for part in parts for node in nodes(part) if isinstance(node, Col)}
    return [feed.hop.source.name, *sorted(names - {feed.hop.source.name})]


def differs(left: str, measures: Iterable[Measure], right: str) -> str:
    """Return the condition under which one of the maintained columns differs between two row names."""
    return "\nOR ".join(
        f"{left}.{quote(measure.column)} IS DISTINCT FROM {right}.{quote(measure.column)}" for measure in measures
    )


def refill(target: str, feeds: Iterable[tuple[Edge, Feed]], rows: str, key: str, match: str) -> str:
    """Return the UPDATE that writes the full values of some target rows where they differ.

    ``rows`` is the FROM item that names them; ``key`` makes the expression of an edge's key out of its column's name,
    and ``match`` joins the rows to the alias ``target``.
    """
    joins, settings, differences = [], [], []
    for number, (edge, feed) in enumerate(feeds, 1):
        select = values_select(edge, feed, key.format(quote(edge.key.name)))
        joins.append(f"CROSS JOIN LATERAL (\n{block(select)}\n) AS value_{number}")
        settings += [f"{quote(measure.column)} = value_{number}.{quote(measure.column)}" for measure in feed.measures]
        differences.append(differs("target", feed.measures, f"value_{number}"))
    return update_from(target, settings, "\n".join([rows, *joins]), match, "\nOR ".join(differences))


def update_from(target: str, settings: Iterable[str], source: str, match: str, differences: str) -> str:
    """Return an UPDATE of the target from joined rows, restricted to rows that differ."""
    assignments = ",\n    ".join(settings)
    return (
        f"UPDATE {table_placeholder(target)} AS target\n"
        f"SET {assignments}\n"
        f"FROM {source}\n"
        f"WHERE {match}\n"
        f"AND (\n{block(differences)}\n);"
    )
