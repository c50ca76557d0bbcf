"""PLAN, first question: whether the value is a function of stored columns alone.

An expression is kept only if the same rows always give the same value, in every session: no clock, no random number,
no order that ties leave open, no text or date that follows a session's settings.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from django.contrib.postgres.search import SearchConfig, SearchVector
from django.core.exceptions import EmptyResultSet, FieldError, FullResultSet
from django.db import NotSupportedError
from django.db.models import (
    BinaryField,
    BooleanField,
    CharField,
    Count,
    DateField,
    DateTimeField,
    DecimalField,
    DurationField,
    FloatField,
    IntegerField,
    Q,
    Subquery,
    TextField,
    TimeField,
    UUIDField,
    lookups,
)
from django.db.models.expressions import (
    BaseExpression,
    Case,
    Col,
    CombinedExpression,
    ExpressionWrapper,
    Func,
    RawSQL,
    Value,
    Window,
)
from django.db.models.fields import json
from django.db.models.functions import (
    Cast,
    Coalesce,
    ConcatPair,
    Greatest,
    JSONArray,
    JSONObject,
    Least,
    Now,
    Random,
)
from django.db.models.functions.datetime import TruncBase
from django.db.models.lookups import Lookup, Transform
from django.db.models.sql import Query
from django.db.models.sql.where import ExtraWhere
from django.utils.timezone import is_naive

from trigger_kit.exceptions import RuleError
from trigger_kit.orders import Problem, check_order, check_single, check_subquery
from trigger_kit.paths import offline_connection
from trigger_kit.relations import ResolvedRule
from trigger_kit.rules import describe
from trigger_kit.sources import children

__all__ = ["require_deterministic"]

# Text of these types does not follow a session's settings, as that of dates and floats does.
_STABLE_AS_TEXT = (BooleanField, CharField, DecimalField, IntegerField, TextField, UUIDField)
_PATTERN_LOOKUPS = (lookups.PatternLookup, lookups.Regex, lookups.IExact)
# Whoever writes a function under these modules knows PostgreSQL's; all are immutable but for those named below.
_KNOWN_MODULES = ("django.db.models.", "django.contrib.postgres.", "trigger_kit.")
_VOLATILE = ("Now", "Random", "TransactionNow", "RandomUUID", "UUID4", "UUID7")
_UNSTABLE_LOOKUPS = ("SearchLookup", "TrigramSimilar", "TrigramStrictWordSimilar", "TrigramWordSimilar", "Unaccent")
_UNSTABLE_AS_TEXT = (BinaryField, DateField, DurationField, FloatField, TimeField)
_CONVERSIONS = (
    Case,
    Cast,
    Coalesce,
    ConcatPair,
    ExpressionWrapper,
    Greatest,
    JSONArray,
    JSONObject,
    Least,
    SearchVector,
)
# The list that Django compares an array with.
_ARRAY = {"function": "ARRAY", "template": "%(function)s[%(expressions)s]"}
_JSON = ("JSONArray", "JSONBAgg", "JSONObject")


def require_deterministic(resolved: ResolvedRule) -> None:
    """Raise RuleError where the value may differ although no row that is read does."""
    if any(isinstance(value, (set, frozenset)) for value in _declared_values(resolved.rule.build())):
        problem = "it lists values in a set, which has another order in every process"
        raise _error(resolved, "E012", problem, "Use a list or a tuple.")
    for node, parent in _walk(resolved.expression):
        found = (
            _problem(node)
            or _check_parent(node, parent)
            or check_order(node, resolved.query)
            or _check_own_generated(node, resolved)
        )
        if found is not None:
            raise _error(resolved, *found)
    found = check_single(resolved)
    if found is not None:
        raise _error(resolved, *found)
    _require_sql(resolved)


def _require_sql(resolved: ResolvedRule) -> None:
    """Refuse what Django resolves but cannot write as SQL."""
    compiler = resolved.query.clone().get_compiler(connection=offline_connection())
    try:
        compiler.compile(resolved.expression)
    except (EmptyResultSet, FullResultSet):
        return
    except (FieldError, NotSupportedError, TypeError, ValueError) as error:
        problem = f"Django cannot write {describe(resolved.rule.expression)} as SQL: {str(error).rstrip('.')}"
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


def _declared_values(node: Any) -> Iterator[Any]:
    """Yield the values in an expression as it is declared, before Django has prepared them."""
    if isinstance(node, Q):
        for child in node.children:
            yield from _declared_values(child[1] if isinstance(child, tuple) else child)
    elif hasattr(node, "_constructor_args"):
        args, kwargs = node._constructor_args
        for child in (*args, *kwargs.values()):
            yield from _declared_values(child)
    else:
        yield node


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


def _check_parent(node: Any, parent: Any) -> Problem | None:
    """Ask what depends on the place of a node."""
    if isinstance(node, Query):
        return check_subquery(node, parent)
    if isinstance(node, CombinedExpression):
        return _check_date_arithmetic(node, parent)
    return _check_truncation(node, parent) if isinstance(node, TruncBase) else None


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
    own = {"function", "template"} & getattr(node, "extra", {}).keys()
    if kind is Func and node.extra == _ARRAY:
        return None
    if kind is Func or own or not kind.__module__.startswith(_KNOWN_MODULES):
        name = next((node.extra[key] for key in sorted(own)), None) or getattr(node, "function", None) or kind.__name__
        return (
            "E026",
            f"it uses {name}, which is not known to be immutable",
            "Use Django's functions, or store the result in a GeneratedField, which PostgreSQL checks, and read that.",
        )
    return None


def _check_extra(node: ExtraWhere) -> Problem | None:
    """Refuse SQL whose columns nobody knows."""
    return "E025", "extra(where=…) does not say which columns it reads", "Write it with filter()."


def _check_lookup(lookup: Lookup[Any]) -> Problem | None:
    """Refuse lookups whose result follows a session's settings."""
    left = _field_of(lookup.lhs)
    if isinstance(lookup, _PATTERN_LOOKUPS) and not isinstance(
        left, (*_STABLE_AS_TEXT, json.KeyTransform, json.JSONField)
    ):
        problem = (
            f"it searches the text of a {type(left).__name__}, which follows DateStyle and other settings of a session"
        )
        return "E012", problem, "Compare with constants, or store the text in a column."
    right = _field_of(lookup.rhs)
    if isinstance(left, DateField) and isinstance(right, DateField) and _kind(left) != _kind(right):
        problem = "it compares a date with a time, which every session does in its own time zone"
        return "E012", problem, "Compare columns of one type."
    return _check_time_zone(lookup) if isinstance(lookup, lookups.YearLookup) else None


def _field_of(node: Any) -> Any:
    """Return a node's output field, or None where there is none or Django cannot tell."""
    try:
        return getattr(node, "output_field", None)
    except FieldError:
        return None


def _kind(field: Any) -> str:
    return str(field.get_internal_type())


# Conversions --------------------------------------------------------------------------------------------------------


def _check_time_zone(node: Any) -> Problem | None:
    """Refuse parts of a time where Django leaves the time zone to the session."""
    from django.conf import settings

    field = _field_of(node.lhs)
    if settings.USE_TZ or not isinstance(field, DateField) or field.get_internal_type() != "DateTimeField":
        return None
    problem = "it takes a part of a time, which every session does in its own time zone while USE_TZ = False"
    return "E012", problem, "Set USE_TZ = True, or compare with constants that have a time zone."


def _check_truncation(node: Any, parent: Any) -> Problem | None:
    """Refuse truncated times: PostgreSQL gives them without a time zone, and the session adds its own."""
    if isinstance(parent, Count) or not isinstance(_field_of(node), DateTimeField):
        return None
    problem = f"{type(node).__name__} gives a time without time zone, which every session reads in its own"
    return "E012", problem, "Pass output_field=DateField(), or use TruncDate or Extract."


def _check_date_arithmetic(node: CombinedExpression, parent: Any) -> Problem | None:
    """Refuse durations added to times and dates where the session's time zone counts."""
    left, right = _field_of(node.lhs), _field_of(node.rhs)
    dated, duration = (node.rhs, node.lhs) if isinstance(left, DurationField) else (node.lhs, node.rhs)
    field = _field_of(dated)
    if not isinstance(field, DateField) or not isinstance(right if duration is node.rhs else left, DurationField):
        return None
    if isinstance(field, DateTimeField):
        value = getattr(duration, "value", None)
        if isinstance(value, datetime.timedelta) and datetime.timedelta() <= value < datetime.timedelta(days=1):
            return None
        problem = "it adds days to a time, and how long a day is depends on the time zone of the session"
        return (
            "E012",
            problem,
            "Compare the difference of two times with the duration: Q(gap__gt=F('end') - F('start')).",
        )
    if any(not isinstance(_field_of(item) or field, DateTimeField) for item in (node, parent) if _is_typed(item)):
        return None
    problem = "it adds a duration to a date, and the time that this gives is read in the time zone of the session"
    return "E012", problem, "Say that it is a date: ExpressionWrapper(…, output_field=DateField())."


def _is_typed(node: Any) -> bool:
    return isinstance(node, (CombinedExpression, ExpressionWrapper))


def _check_conversion(node: Any) -> Problem | None:
    """Refuse conversions between text and times, and between dates and times, which follow a session's settings."""
    for child in _converted(node):
        source = _field_of(child)
        is_literal = isinstance(child, Value) and not isinstance(source, (DateField, TimeField, DurationField))
        if source is None or (is_literal and not isinstance(source, (CharField, TextField))):
            continue
        if _follows_settings(node, child, _base(source)):
            problem = (
                f"{type(node).__name__.removesuffix('Pair')} turns a {type(source).__name__} into another type as the "
                "session's settings say"
            )
            return (
                "E012",
                problem,
                "Use TruncDate or Extract, Cast() a float to a DecimalField, or keep the column's type.",
            )
    return None


def _converted(node: Any) -> list[Any]:
    """Return the parts of a node whose values become part of its value."""
    if type(node).__name__ == "JSONBAgg":
        return list(node.get_source_expressions()[:1])
    if isinstance(node, Case):
        return [*(case.result for case in node.cases), node.default]
    return [child for child in node.get_source_expressions() if child is not None]


def _base(field: Any) -> Any:
    """Return the field of an array's or a range's elements."""
    while hasattr(field, "base_field"):
        field = field.base_field
    return field


def _follows_settings(node: Any, child: Any, source: Any) -> bool:
    """Whether a conversion depends on DateStyle, TimeZone, IntervalStyle, extra_float_digits or bytea_output."""
    if isinstance(node, (ConcatPair, SearchVector)):
        return isinstance(source, _UNSTABLE_AS_TEXT)
    if type(node).__name__ in _JSON:  # jsonb writes dates and times of day in ISO format always
        return isinstance(source, _UNSTABLE_AS_TEXT) and (isinstance(source, DateTimeField) or not _is_iso(source))
    target = _base(_field_of(node))
    if target is None or _kind(target) == _kind(source):
        return False
    if isinstance(target, (CharField, TextField)):
        return isinstance(source, _UNSTABLE_AS_TEXT)
    if isinstance(source, (CharField, TextField)):
        return isinstance(target, (DateField, TimeField, DurationField))
    if isinstance(child, CombinedExpression) and not isinstance(target, DateTimeField):
        return False
    return _is_iso(source) or _is_iso(target)


def _is_iso(field: Any) -> bool:
    return isinstance(field, (DateField, TimeField))


def _check_json_aggregate(node: Any) -> Problem | None:
    return _check_conversion(node) if type(node).__name__ == "JSONBAgg" else None


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
    (ExtraWhere, _check_extra),
    (Lookup, _check_lookup),
    (Transform, _check_time_zone),
    (_CONVERSIONS, _check_conversion),
    (Func, _check_json_aggregate),
    (Func, _check_search),
    (Col, _check_generated),
)
