"""RESOLVE: a rule and the models of a project state -> a ResolvedRule.

Django's own resolver reads the expression; what it found out, the joins and columns, becomes the sources of the rule
and the paths that lead to them. The models may be live ones or those of a migration's state: nothing here asks the
registry, and nothing opens a connection.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import FieldDoesNotExist, FieldError, ValidationError
from django.db import NotSupportedError
from django.db.models import Field, Model
from django.db.models.sql import Query

from trigger_kit.exceptions import RuleError
from trigger_kit.notation import as_migrated, describe
from trigger_kit.resolve.columns import Column, Source, column_of, full_type
from trigger_kit.resolve.sources import UnlinkedTableError, UnreadableQueryError, read_sources
from trigger_kit.resolve.time_zone import in_project_zone
from trigger_kit.rows import RowsError
from trigger_kit.rules import Denormalize

__all__ = ["ResolvedRule", "reason", "resolve", "rule_uri"]

# What Django says of an expression that does not fit its models.
_UNRESOLVED = (
    FieldError,
    FieldDoesNotExist,
    IndexError,
    NotSupportedError,
    TypeError,
    ValidationError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class ResolvedRule:
    """A rule, its target column and all that its value depends on.

    ``expression`` is resolved: its columns are ``Col`` nodes on the aliases of ``query``. ``sources`` are the rows that
    it reads, the target's own first.
    """

    uri: str
    rule: Denormalize
    model: type[Model]
    field: Field[Any, Any]
    column: Column
    query: Query
    expression: Any
    sources: tuple[Source, ...]

    @property
    def description(self) -> str:
        """The rule on one line, as its author wrote it and a migration gives it back."""
        return f"{self.column.name} = {describe(as_migrated(self.rule.expression))}"

    @property
    def dependencies(self) -> frozenset[tuple[str, str]]:
        """Every table and column that the value depends on."""
        return frozenset((source.table, column) for source in self.sources for column in source.columns)

    @property
    def column_types(self) -> frozenset[tuple[str, str]]:
        """The columns that the value depends on and the one that keeps it, each with its full type and collation."""
        fields = {self.field} | {
            field
            for source in self.sources
            for field in source.model._meta.concrete_fields
            if field.column in source.columns
        }
        return frozenset((str(field.column), full_type(field)) for field in fields)

    def is_recursion(self, source: Source) -> bool:
        """Whether a source is the rule's own column, in the rows one hop away in the same table: a tree's rollup."""
        return len(source.path) == 1 and source.table == self.column.table and self.column.name in source.columns

    @property
    def is_recursive(self) -> bool:
        """Whether the value is computed from the same column of other rows, level by level."""
        return any(map(self.is_recursion, self.sources))

    @property
    def required(self) -> frozenset[tuple[str, str]]:
        """The columns that must be right before this one can be; a recursion over one hop may read its own."""
        others = [source for source in self.sources if not self.is_recursion(source)]
        own = {(self.column.table, self.column.name)}
        read = {(source.table, column) for source in others for column in source.columns}
        return frozenset(read | (self.dependencies - own))


def rule_uri(model: type[Model], field: str) -> str:
    """Return the name of a rule in commands, log lines and errors: ``app_label.Model:field``."""
    return f"{model._meta.label}:{field}"


def resolve(rule: Denormalize, model: type[Model]) -> ResolvedRule:
    """Resolve a rule against its model.

    Raises RuleError, with the id of a system check, for what cannot be resolved.
    """
    uri = rule_uri(model, rule.field)
    field = _target_field(rule, model, uri)
    _require_table(model, uri, "The model that declares the rule", "trigger_kit.E016")
    query, expression = _resolve_expression(rule, model, uri)
    sources = _sources(query, expression, uri)
    for source in sources:
        _require_table(source.model, uri, "The source", "trigger_kit.E017")
    return ResolvedRule(uri, rule, model, field, column_of(field), query, expression, sources)


def _sources(query: Query, expression: Any, uri: str) -> tuple[Source, ...]:
    """Return the sources of an expression; refuse what cannot be traced back to the target."""
    try:
        return read_sources(query, expression)
    except UnlinkedTableError as error:
        raise RuleError(
            "trigger_kit.E024",
            f"{uri} cannot be kept: a subquery reads {error.model._meta.label} without saying which of its rows belong "
            "to which target, so every change there would concern all of them.",
            "Correlate it by equality: filter(author=OuterRef('pk')).",
        ) from error
    except UnreadableQueryError as error:
        raise RuleError(
            "trigger_kit.E025",
            f"{uri} cannot be kept: a subquery uses distinct(fields), whose columns are not known.",
            "Write it with filter(), annotate(), order_by() and values().",
        ) from error


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
    if getattr(field, "many_to_many", False) or getattr(field, "auto_created", False) or not isinstance(field, Field):
        return "it is no column of this model, but a relation of others to it"
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


def _require_table(model: type[Model], uri: str, role: str, check_id: str) -> None:
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


def _resolve_expression(rule: Denormalize, model: type[Model], uri: str) -> tuple[Query, Any]:
    """Resolve the expression with Django's own resolver, as annotate() would."""
    query = Query(model)
    query.get_initial_alias()
    try:
        # Constants without a time zone are in the project's, not in that of the request which happens to run.
        with in_project_zone():
            query.add_annotation(as_migrated(rule.expression), "tk_value")
    except _UNRESOLVED as error:
        raise RuleError(
            "trigger_kit.E005",
            f"{uri}: Django cannot resolve {describe(rule.expression)}: {reason(error)}.",
            _path_hint(error),
        ) from error
    return query, query.annotations["tk_value"]


def reason(error: Exception) -> str:
    """Return an error's message, to be followed by a full stop."""
    if isinstance(error, RowsError):
        return error.problem
    text = " ".join(error.messages) if isinstance(error, ValidationError) else str(error)
    return text.rstrip(".")


def _path_hint(error: Exception) -> str:
    """Suggest the nearest name out of Django's own error message, or what an error of ours suggests."""
    if isinstance(error, RowsError):
        return error.hint
    if "Cannot filter against a non-conditional expression" in str(error):
        return "Say the type of a subquery that is a condition: Subquery(…, output_field=BooleanField())."
    match = re.search(r"Cannot resolve keyword '(.+?)' into field.*Choices are: (.+)$", str(error), re.DOTALL)
    if match is None:
        lookup = re.search(r"Unsupported lookup '(.+?)' for", str(error))
        lost = f": {lookup[1]!r} is neither a field there nor a lookup" if lookup else ""
        return f"Use an expression that .annotate() accepts on this model{lost}."
    return _did_you_mean(match[1], match[2].split(", "))


def _did_you_mean(name: str, choices: list[str]) -> str:
    """Return a hint with the most similar name, or with all of them."""
    similar = difflib.get_close_matches(name, choices, n=1)
    if similar:
        return f"Did you mean {similar[0]!r}?"
    return f"Choose one of: {', '.join(sorted(choices))}."
