"""RESOLVE: a rule and the models of a project state -> a ResolvedRule.

Django's own resolver reads the expression; what it found out, the joins and columns, becomes a path of hops and a
set of dependencies. The models may be live ones or those of a migration's state: nothing here asks the registry,
and nothing opens a connection.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.models import Field, ForeignKey, Model
from django.db.models.expressions import Col
from django.db.models.fields.related import ForeignObjectRel, OneToOneRel
from django.db.models.fields.reverse_related import ManyToOneRel
from django.db.models.lookups import Lookup
from django.db.models.sql import Query
from django.db.models.sql.where import WhereNode
from django.utils import timezone

from trigger_kit.exceptions import RuleError
from trigger_kit.rules import Denormalize, describe

__all__ = ["Column", "Hop", "ResolvedRule", "nodes", "offline_connection", "resolve", "rule_uri"]


@dataclass(frozen=True, order=True)
class Column:
    """A column of a table; ``type`` is its PostgreSQL type without length or scale."""

    table: str
    name: str
    type: str


@dataclass(frozen=True)
class Hop:
    """One relation step, from a source's column to the key of the target that it points at."""

    source: Column
    target: Column

    def __str__(self) -> str:
        return f"{self.source.table}.{self.source.name} -> {self.target.table}.{self.target.name}"


@dataclass(frozen=True, eq=False)
class ResolvedRule:
    """A rule, its target column and all that its value depends on.

    ``expression`` is resolved: its columns are ``Col`` nodes on the aliases of ``query``. ``path`` leads from the
    target's model to the source's, one ``Hop`` per relation; ``source_alias`` is the source's alias in ``query``.
    """

    uri: str
    rule: Denormalize
    model: type[Model]
    field: Field[Any, Any]
    column: Column
    query: Query
    expression: Any
    source_model: type[Model]
    source_alias: str
    path: tuple[Hop, ...]
    dependencies: frozenset[tuple[str, str]]

    @property
    def description(self) -> str:
        """The rule as its author wrote it, on one line."""
        return f"{self.column.name} = {describe(self.rule.expression)}"


@cache
def offline_connection() -> DatabaseWrapper:
    """Return a PostgreSQL backend that never connects: it quotes and compiles for the oldest supported server."""
    connection = DatabaseWrapper({"NAME": "offline", "OPTIONS": {}, "TIME_ZONE": None}, alias="trigger_kit_offline")
    connection.__dict__["pg_version"] = 150000
    return connection


def rule_uri(model: type[Model], field: str) -> str:
    """Return the name of a rule in commands, log lines and errors: ``app_label.Model:field``."""
    return f"{model._meta.label}:{field}"


def resolve(rule: Denormalize, model: type[Model]) -> ResolvedRule:
    """Resolve a rule against its model.

    Raises RuleError, with the id of a system check, for what cannot be resolved.
    """
    uri = rule_uri(model, rule.field)
    field = _target_field(rule, model, uri)
    _require_plain_model(model, uri, "The model that declares the rule", "trigger_kit.E016")
    query, expression = _resolve_expression(rule, model, uri)
    columns = [node for node in nodes(expression) if isinstance(node, Col)]
    alias, hop, source_model = _single_hop(query, columns, model, uri)
    _require_plain_model(source_model, uri, "The source", "trigger_kit.E017")
    tables = {name: join.table_name for name, join in query.alias_map.items()}
    dependencies = {(str(tables[col.alias]), str(col.target.column)) for col in columns}
    dependencies.add((hop.source.table, hop.source.name))
    return ResolvedRule(
        uri=uri,
        rule=rule,
        model=model,
        field=field,
        column=_column(field),
        query=query,
        expression=expression,
        source_model=source_model,
        source_alias=alias,
        path=(hop,),
        dependencies=frozenset(dependencies),
    )


def _target_field(rule: Denormalize, model: type[Model], uri: str) -> Field[Any, Any]:
    """Return the field that the rule keeps; refuse what cannot be one."""
    try:
        field = model._meta.get_field(rule.field)
    except FieldDoesNotExist:
        names = [field.name for field in model._meta.concrete_fields]
        raise RuleError(
            "trigger_kit.E002",
            f"{uri} keeps a field that {model._meta.label} does not have.",
            _did_you_mean(rule.field, names),
        ) from None
    problem = _target_problem(field, model)
    if problem:
        raise RuleError(
            "trigger_kit.E003",
            f"{uri} cannot be kept: {problem}.",
            "Add a plain field for the value, for example models.IntegerField(default=0, editable=False).",
        )
    assert isinstance(field, Field)
    return field


def _target_problem(field: Any, model: type[Model]) -> str | None:
    """Say why a field cannot be a target, or return None."""
    if not isinstance(field, Field) or field.is_relation:
        return "it is a relation"
    if field.primary_key:
        return "it is the primary key"
    if getattr(field, "generated", False):
        return "it is a GeneratedField, which PostgreSQL computes already"
    if field.column is None:
        return "it has no column"
    if field.column.startswith("tk_"):
        return "column names that start with tk_ are trigger_kit's own"
    if field.model._meta.concrete_model is not model._meta.concrete_model:
        return f"its column belongs to {field.model._meta.label}; declare the rule there"
    return None


def _require_plain_model(model: type[Model], uri: str, role: str, check_id: str) -> None:
    """Refuse models without a table of their own that migrations manage."""
    if model._meta.proxy:
        raise RuleError(
            check_id,
            f"{uri}: {role}, {model._meta.label}, is a proxy model.",
            f"Use {model._meta.concrete_model._meta.label} itself." if model._meta.concrete_model else "",
        )
    if not model._meta.managed:
        raise RuleError(
            check_id,
            f"{uri}: {role}, {model._meta.label}, is unmanaged: its table may not be able to carry triggers.",
            "Set managed = True, or keep the value with .annotate().",
        )
    if model._meta.parents:
        raise RuleError(
            check_id,
            f"{uri}: {role}, {model._meta.label}, uses multi-table inheritance, which is not supported yet.",
            "Move the rule to a model with one table, or keep the value with .annotate().",
        )


def _resolve_expression(rule: Denormalize, model: type[Model], uri: str) -> tuple[Query, Any]:
    """Resolve the expression with Django's own resolver, as annotate() would."""
    if not hasattr(rule.expression, "resolve_expression"):
        raise RuleError(
            "trigger_kit.E019",
            f"{uri}: an expression given as a callable is not supported yet.",
            "Write the expression itself, for example Count('books').",
        )
    query = Query(model)
    try:
        # Constants without a time zone are in the project's, not in that of the request which happens to run.
        with timezone.override(None):
            query.add_annotation(rule.expression, "tk_value")
    except (FieldError, FieldDoesNotExist, TypeError, ValueError) as error:
        raise RuleError(
            "trigger_kit.E005",
            f"{uri}: Django cannot resolve {describe(rule.expression)}: {str(error).rstrip('.')}.",
            _path_hint(error),
        ) from error
    return query, query.annotations["tk_value"]


def _path_hint(error: Exception) -> str:
    """Suggest the nearest name out of Django's own error message."""
    match = re.search(r"Cannot resolve keyword '(.+?)' into field.*Choices are: (.+)$", str(error), re.DOTALL)
    if match is None:
        return "Use an expression that .annotate() accepts on this model."
    return _did_you_mean(match[1], match[2].split(", "))


def _did_you_mean(name: str, choices: list[str]) -> str:
    """Return a hint with the most similar name, or with all of them."""
    similar = difflib.get_close_matches(name, choices, n=1)
    if similar:
        return f"Did you mean {similar[0]!r}?"
    return f"Choose one of: {', '.join(sorted(choices))}."


def nodes(node: Any) -> Iterator[Any]:
    """Yield a resolved expression's nodes and constants, itself first."""
    if isinstance(node, (list, tuple)):
        for item in node:
            yield from nodes(item)
        return
    if node is None:
        return
    yield node
    if isinstance(node, WhereNode):
        children = node.children
    elif isinstance(node, Lookup):
        children = [node.lhs, node.rhs]
    elif hasattr(node, "get_source_expressions"):
        children = node.get_source_expressions()
    else:
        return
    for child in children:
        yield from nodes(child)


def _single_hop(query: Query, columns: list[Any], model: type[Model], uri: str) -> tuple[str, Hop, type[Model]]:
    """Return the alias, the hop and the model of the one source that an expression reads."""
    base = query.get_initial_alias()
    aliases = {col.alias for col in columns}
    if not aliases - {base}:
        raise RuleError(
            "trigger_kit.E006",
            f"{uri} reads no related row: it depends on {model._meta.label} itself only.",
            "Use a GeneratedField for a value made of the row's own columns.",
        )
    if len(aliases - {base}) > 1 or base in aliases:
        raise _unsupported_path(uri, "it reads columns of more than one table")
    (alias,) = aliases
    join: Any = query.alias_map[alias]
    relation = getattr(join, "join_field", None)
    if not isinstance(relation, (ManyToOneRel, OneToOneRel)) or join.parent_alias != base:
        raise _unsupported_path(uri, _path_problem(relation, from_target=join.parent_alias == base))
    foreign_key = relation.field
    if not isinstance(foreign_key, ForeignKey) or relation.parent_link or len(join.join_cols) != 1:
        raise _unsupported_path(uri, "it follows a relation of several columns or a parent link")
    if relation.related_model._meta.auto_created:
        raise _unsupported_path(uri, _path_problem(None, from_target=True))
    target = foreign_key.target_field
    source_model = relation.related_model
    return alias, Hop(source=_column(foreign_key), target=_column(target)), source_model


def _path_problem(relation: Any, *, from_target: bool) -> str:
    """Say what kind of relation a rule may not follow yet."""
    if not from_target:
        return "its path has more than one hop"
    if isinstance(relation, ForeignObjectRel) or not isinstance(relation, ForeignKey):
        return "its relation is many-to-many or generic"
    return "it follows a foreign key forwards"


def _unsupported_path(uri: str, problem: str) -> RuleError:
    return RuleError(
        "trigger_kit.E009",
        f"{uri} cannot be kept yet: {problem}.",
        "Supported now: one hop over a reverse foreign key or one-to-one relation. Keep this value with .annotate().",
    )


def _column(field: Any) -> Column:
    """Return a field's column; the type is the one a foreign key to it would have, so serials become integers."""
    connection = offline_connection()
    declared = field.target_field.rel_db_type(connection) if field.is_relation else field.rel_db_type(connection)
    kind = re.sub(r"\(.*?\)", "", declared or "").strip()
    return Column(table=field.model._meta.db_table, name=field.column, type=kind)
