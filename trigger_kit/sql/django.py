"""COMPILE expressions: Django's own SQL, with tables as placeholders and parameters as literals.

A subclass of Django's compiler writes every table as a placeholder with an alias, every name quoted, in whatever
version of Django. Content types are looked up by label: their ids differ between databases.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from django.db.backends.postgresql.operations import DatabaseOperations
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.db.models.sql.datastructures import BaseTable, Join

from trigger_kit.resolve.columns import Column, Hop, is_comparable, offline_connection
from trigger_kit.resolve.rule import ResolvedRule, resolve
from trigger_kit.resolve.sources import join_hop
from trigger_kit.resolve.time_zone import as_in, in_project_zone
from trigger_kit.sql.text import escape_braces, identifier, literal, table_placeholder

__all__ = [
    "compile_join",
    "compile_node",
    "content_type_sql",
    "depends_on_time_zone",
    "far_sql",
    "hop_condition",
    "kind_sql",
]

# Protect a placeholder while the braces of everything else are doubled.
_OPEN, _CLOSE = "\x02", "\x03"
_PROTECTED = re.compile(f"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}")


class PlaceholderCompiler(SQLCompiler):
    """Django's compiler, writing tables as placeholders, so that its text depends on no database and no version."""

    def quote_name_unless_alias(self, name: str) -> str:
        """Quote every name, aliases too."""
        return _percent(identifier(name))

    quote_name = quote_name_unless_alias  # from Django 6.1 on

    def compile(self, node: Any) -> tuple[str, Any]:
        """Compile a node; tables and joins are written here."""
        if isinstance(node, Join):
            return _join(self, node)
        if isinstance(node, BaseTable):
            return _percent(f"{_protected(str(node.table_name))} AS {identifier(str(node.table_alias))}"), []
        return super().compile(node)


class PlaceholderOperations(DatabaseOperations):
    """Gives queries the compiler above, those of subqueries too."""

    def compiler(self, compiler_name: str) -> Any:
        """Return the compiler class of a name."""
        return PlaceholderCompiler if compiler_name == "SQLCompiler" else super().compiler(compiler_name)


@cache
def _connection() -> Any:
    connection = offline_connection()
    connection.ops = PlaceholderOperations(connection)
    return connection


def _join(compiler: PlaceholderCompiler, join: Join) -> tuple[str, list[Any]]:
    """Return a JOIN clause; Django's would ask the database for the id of a content type."""
    hop = join_hop(join)
    near, far = identifier(str(join.parent_alias)), identifier(str(join.table_alias))
    conditions = [_percent(_hop_condition(hop, near, far))]
    params: list[Any] = []
    relation: Any = join.join_field
    own = None if hop.content_type else relation.get_extra_restriction(join.table_alias, join.parent_alias)
    for extra in (own, join.filtered_relation):
        if extra is not None:
            sql, more = compiler.compile(extra)
            conditions.append(f"({sql})")
            params += more
    table = _percent(f"{_protected(str(join.table_name))} AS {far}")
    return f"{join.join_type} {table} ON ({' AND '.join(conditions)})", params


def compile_node(query: Query, node: Any, aliases: dict[str, str] | None = None) -> str:
    """Return a resolved node as compiled text; ``aliases`` renames rows of its query."""
    relabeled = node.relabeled_clone(aliases) if aliases and hasattr(node, "relabeled_clone") else node
    with in_project_zone():
        compiler = PlaceholderCompiler(query, _connection(), None)
        text, parameters = compiler.compile(relabeled)
    return _with_placeholders(str(text) % tuple(literal(parameter) for parameter in parameters))


def depends_on_time_zone(resolved: ResolvedRule) -> bool:
    """Whether the value of a rule is another one under another ``settings.TIME_ZONE``."""
    if not any("timestamp" in kind for _, kind in resolved.column_types):
        return False
    texts = set()
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        with as_in(zone):
            again = resolve(resolved.rule, resolved.model)
            texts.add(compile_node(again.query, again.expression))
    return len(texts) > 1


def compile_join(query: Query, alias: str) -> str:
    """Return the JOIN clause of an alias as compiled text."""
    return compile_node(query, query.alias_map[alias])


def _protected(table: str) -> str:
    return f"{_OPEN}{table_placeholder(table)[1:-1]}{_CLOSE}"


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _with_placeholders(text: str) -> str:
    """Return compiled text: braces are doubled, but for those of placeholders."""
    return _PROTECTED.sub(r"{\1}", escape_braces(text))


# Hops ---------------------------------------------------------------------------------------------------------------


def hop_condition(hop: Hop, near: str, far: str) -> str:
    """Return the condition that joins two rows, named as SQL, as compiled text."""
    return _with_placeholders(_hop_condition(hop, near, far))


def kind_sql(hop: Hop, row: str) -> str | None:
    """Return what a generic relation asks of the row that points, on whichever side it is, as compiled text."""
    condition = _content_type(hop, row, row)
    return None if condition is None else _with_placeholders(condition)


def content_type_sql(hop: Hop, far: str) -> str | None:
    """Return what a generic relation asks of its far side, as compiled text."""
    condition = _far_kind(hop, far)
    return None if condition is None else _with_placeholders(condition)


def far_sql(hop: Hop, far: str) -> list[str]:
    """Return the far columns as values of the near columns' types, as compiled text."""
    return [
        _with_placeholders(_as_near(hop, near, column, far)) for near, column in zip(hop.near, hop.far, strict=True)
    ]


def _as_near(hop: Hop, near: Column, column: Column, far: str) -> str:
    """Return a far column; the key of a generic relation may be stored as another type, such as text.

    Only rows of the right content type are converted: the keys of others may not look like ours. Of those, only such
    as are written the way PostgreSQL writes a key: look-ups compare the texts, so that an index serves.
    """
    name = f"{far}.{identifier(column.name)}"
    if is_comparable(near.type, column.type):
        return name
    value = f"{name}::{near.type}"
    condition = _far_kind(hop, far)
    if condition is None:
        return value
    return f"CASE WHEN {condition} THEN CASE WHEN {value}::{column.type} = {name} THEN {value} END END"


def _hop_condition(hop: Hop, near: str, far: str) -> str:
    conditions = []
    for left, right in zip(hop.near, hop.far, strict=True):
        # The near side is converted, so that an index on the far side serves.
        cast = "" if is_comparable(left.type, right.type) else f"::{right.type}"
        conditions.append(f"{far}.{identifier(right.name)} = {near}.{identifier(left.name)}{cast}")
    kind = _content_type(hop, near, far)
    return " AND ".join([*conditions, *([kind] if kind else [])])


def _far_kind(hop: Hop, far: str) -> str | None:
    """Return the test of a content type that the far row carries; None where the near one does."""
    kind = hop.content_type
    return None if kind is None or kind.is_near else _content_type(hop, far, far)


def _content_type(hop: Hop, near: str, far: str) -> str | None:
    kind = hop.content_type
    if kind is None:
        return None
    return (
        f"{near if kind.is_near else far}.{identifier(kind.column)} = "
        f"(SELECT type.id FROM {_protected(kind.table)} AS type "
        f"WHERE type.app_label = {literal(kind.app_label)} AND type.model = {literal(kind.model)})"
    )
