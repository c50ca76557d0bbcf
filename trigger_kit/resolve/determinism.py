"""PLAN, first question: whether the value is a function of stored columns alone.

An expression is kept only if the same rows always give the same value, in every session: no clock, no random number,
no order that ties leave open, no text or date that follows a session's settings.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import psycopg
from django.contrib.postgres.search import SearchConfig
from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet, ValidationError
from django.db import NotSupportedError
from django.db.models import Subquery, lookups
from django.db.models.expressions import (
    BaseExpression,
    Col,
    CombinedExpression,
    Func,
    RawSQL,
    Value,
    Window,
)
from django.db.models.functions import (
    Coalesce,
    Now,
    Random,
)
from django.db.models.functions.datetime import TruncBase
from django.db.models.lookups import Lookup, Transform
from django.db.models.sql import Query
from django.utils.timezone import is_naive
from psycopg import sql

from trigger_kit.exceptions import RuleError
from trigger_kit.notation import describe, parts
from trigger_kit.resolve.columns import offline_connection
from trigger_kit.resolve.conversions import (
    CONVERSIONS,
    check_conversion,
    check_date_arithmetic,
    check_json_aggregate,
    check_lookup,
    check_time_zone,
    check_truncation,
)
from trigger_kit.resolve.ordering import Problem, check_order, check_single, check_subquery
from trigger_kit.resolve.rule import ResolvedRule, reason
from trigger_kit.resolve.sources import children

__all__ = ["require_deterministic"]

# Whoever writes a function under these modules knows PostgreSQL's; all are immutable but for those named below.
_KNOWN_MODULES = ("django.db.models.", "django.contrib.postgres.", "trigger_kit.")
_VOLATILE = ("Now", "Random", "TransactionNow", "RandomUUID", "UUID4", "UUID7")
_UNSTABLE_LOOKUPS = ("SearchLookup", "TrigramSimilar", "TrigramStrictWordSimilar", "TrigramWordSimilar", "Unaccent")
# The list that Django compares an array with.
_ARRAY = {"function": "ARRAY", "template": "%(function)s[%(expressions)s]"}


def require_deterministic(resolved: ResolvedRule) -> None:
    """Raise RuleError where the value may differ although no row that is read does."""
    declared = list(parts(resolved.rule.expression))
    if any(isinstance(value, (set, frozenset)) for value in declared):
        problem = "it lists values in a set, which has another order in every process"
        raise _error(resolved, "E012", problem, "Use a list or a tuple.")
    if any(isinstance(value, Iterator) for value in declared):
        problem = "it lists values in an iterator, which can be read once only"
        raise _error(resolved, "E012", problem, "Use a list or a tuple.")
    for node, parent in _walk(resolved.expression):
        is_result = _is_result(node, parent, resolved.expression)
        found = (
            _problem(node)
            or _check_parent(node, parent, is_result=is_result)
            or check_order(node, resolved.query, is_result=is_result)
            or _check_own_generated(node, resolved)
        )
        if found is not None:
            raise _error(resolved, *found)
    found = check_single(resolved)
    if found is not None:
        raise _error(resolved, *found)
    _require_sql(resolved)


def _is_result(node: Any, parent: Any, expression: Any) -> bool:
    """Whether a node's value is the rule's, or a default in its place."""
    return node is expression or (parent is expression and isinstance(parent, (Coalesce, Subquery)))


def _require_sql(resolved: ResolvedRule) -> None:
    """Refuse what Django resolves but cannot write as SQL."""
    compiler = resolved.query.clone().get_compiler(connection=offline_connection())
    try:
        _, parameters = compiler.compile(resolved.expression)
        for parameter in parameters:
            sql.Literal(parameter).as_string(None)
    except (EmptyResultSet, FullResultSet):
        return
    except (FieldError, IndexError, NotSupportedError, TypeError, ValidationError, ValueError, psycopg.Error) as error:
        problem = f"Django cannot write {describe(resolved.rule.expression)} as SQL: {reason(error)}"
        hint = "Use an expression that .annotate() accepts on this model."
        raise RuleError("trigger_kit.E005", f"{resolved.uri}: {problem}.", hint) from error


def _walk(node: Any, parent: Any = None) -> Iterator[tuple[Any, Any]]:
    """Yield an expression's nodes, each with the node that it is part of."""
    if not isinstance(node, (list, tuple)):
        yield node, parent
        is_list_of_values = isinstance(parent, lookups.In) and type(node) is Subquery
        parent = parent if is_list_of_values else node
    for child in children(node):
        yield from _walk(child, parent)


def _error(resolved: ResolvedRule, number: str, problem: str, hint: str) -> RuleError:
    return RuleError(f"trigger_kit.{number}", f"{resolved.uri} cannot be kept: {problem}.", hint)


def _problem(node: Any) -> Problem | None:
    """Say why a node's value may follow more than stored columns: a check's number, the reason, what to do."""
    value = node.value if isinstance(node, Value) else node
    if isinstance(value, datetime.datetime) and is_naive(value):
        problem = "it compares with a time without time zone, which every session reads in its own"
        return "E012", problem, "Set USE_TZ = True, or write the time with its zone."
    if isinstance(value, str) and "\x00" in value:
        return "E012", "it contains a NUL character, which PostgreSQL text cannot hold", "Remove it."
    for kind, check in _CHECKS:
        if isinstance(node, kind):
            found: Problem | None = check(node)
            if found is not None:
                return found
    return None


def _check_parent(node: Any, parent: Any, *, is_result: bool) -> Problem | None:
    """Ask what depends on the place of a node."""
    if isinstance(node, Query):
        return check_subquery(node, parent, is_result=is_result)
    if isinstance(node, CombinedExpression):
        return check_date_arithmetic(node, parent)
    return check_truncation(node, parent) if isinstance(node, TruncBase) else None


def _check_module(node: Any) -> Problem | None:
    """Refuse what is not Django's own, and functions of the clock."""
    kind = type(node)
    if kind.__name__ in _VOLATILE or isinstance(node, (Now, Random)):
        problem = f"it calls {kind.__name__}(), whose value changes although no row does"
        return "E020", problem, "Compare with a stored column or a constant."
    if isinstance(node, Window):
        problem = "a window function reads the other rows of a query, and a rule has none"
        return "E020", problem, "Say which related rows count: Count('…', filter=…), First('…', order_by=…)."
    if isinstance(node, RawSQL):
        return "E020", "RawSQL does not say which columns it reads", "Write it with Django's expressions."
    if kind.__name__ in _UNSTABLE_LOOKUPS:
        problem = f"the lookup {node.lookup_name} follows settings and dictionaries of the server"
        return "E020", problem, "Compare with __icontains, TrigramSimilarity() or a SearchVector with config."
    own = _own_sql(node)
    if kind is Func and node.extra == _ARRAY:
        return None
    if kind is Func or own or not kind.__module__.startswith(_KNOWN_MODULES):
        name = next(iter(own), None) or getattr(node, "function", None) or kind.__name__
        return (
            "E026",
            f"it uses {name}, which is not known to be immutable",
            "Use Django's functions, or store the result in a GeneratedField, which PostgreSQL checks, and read that.",
        )
    return None


def _own_sql(node: Any) -> list[str]:
    """Return the names and templates that an author has put in place of an expression's own.

    Django holds the template of a subquery among its other arguments up to 5.2, and as an attribute from 6.0 on.
    """
    given = dict(getattr(node, "extra", {}))
    if isinstance(node, Subquery) and node.template != type(node).template:
        given["template"] = node.template
    return [given[key] for key in ("function", "template") if key in given]


def _check_search(node: Any) -> Problem | None:
    """Refuse text search without configuration, which is a setting of the session."""
    name = type(node).__name__
    if name not in {"SearchVector", "SearchQuery", "SearchHeadline"}:
        return None
    parts = [getattr(node, "config", None), *node.get_source_expressions()]
    config = next((part for part in parts if isinstance(part, SearchConfig)), None)
    if config is None:
        problem = f"{name} without config follows default_text_search_config of the session"
        return "E020", problem, "Name the configuration: SearchVector('…', config='english')."
    if any(not isinstance(part, Value) for part in (config.config, getattr(node, "weight", None) or config.config)):
        return "E020", f"config and weight of {name} have to be constants", "Name them: config='english', weight='A'."
    return None


def _check_generated(node: Col) -> Problem | None:
    """Refuse virtual generated columns, which are NULL in triggers."""
    field: Any = node.target
    if not getattr(field, "generated", False) or field.db_persist:
        return None
    problem = f"{field.model._meta.label}.{field.name} is a virtual generated column, which triggers see as NULL"
    return "E023", problem, "Set db_persist=True on it."


def _check_own_generated(node: Any, resolved: ResolvedRule) -> Problem | None:
    """Refuse generated columns of the target itself, which are NULL in its BEFORE triggers."""
    if not isinstance(node, Col) or not getattr(node.target, "generated", False):
        return None
    if node.alias != resolved.query.get_initial_alias():
        return None
    problem = (
        f"{resolved.model._meta.label}.{node.target.name} is a generated column of the same row, computed after it"
    )
    return "E023", problem, "Write the expression of the generated column in its place."


_CHECKS: tuple[tuple[Any, Any], ...] = (
    ((BaseExpression, Lookup), _check_module),
    (Lookup, check_lookup),
    (Transform, check_time_zone),
    (CONVERSIONS, check_conversion),
    (Func, check_json_aggregate),
    (Func, _check_search),
    (Col, _check_generated),
)
