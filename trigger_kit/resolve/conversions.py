"""PLAN, first question, continued: conversions between types that follow a session's settings.

The text of a date follows DateStyle, a date that becomes a time the session's time zone, the text of a float
``extra_float_digits``: a stored value that went through one would depend on who wrote last.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib.postgres.search import SearchVector
from django.core.exceptions import FieldError
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
    TextField,
    TimeField,
    UUIDField,
    lookups,
)
from django.db.models.expressions import Case, CombinedExpression, ExpressionList, ExpressionWrapper, Value
from django.db.models.fields import json
from django.db.models.functions import Cast, Coalesce, ConcatPair, Greatest, JSONArray, JSONObject, Least, NullIf
from django.db.models.lookups import Lookup
from psycopg.types.range import Range

from trigger_kit.resolve.ordering import Problem

__all__ = [
    "CONVERSIONS",
    "check_conversion",
    "check_date_arithmetic",
    "check_json_aggregate",
    "check_lookup",
    "check_time_zone",
    "check_truncation",
]

# Text of these types does not follow a session's settings, as that of dates and floats does.
_STABLE_AS_TEXT = (BooleanField, CharField, DecimalField, IntegerField, TextField, UUIDField)
_PATTERN_LOOKUPS = (lookups.PatternLookup, lookups.Regex, lookups.IExact)
_UNSTABLE_AS_TEXT = (BinaryField, DateField, DurationField, FloatField, TimeField)
# What makes one value of several, or of another type.
CONVERSIONS = (
    Case,
    Cast,
    Coalesce,
    ConcatPair,
    ExpressionWrapper,
    Greatest,
    JSONArray,
    JSONObject,
    Least,
    NullIf,
    SearchVector,
)
_JSON = ("JSONArray", "JSONBAgg", "JSONObject")


def check_lookup(lookup: Lookup[Any]) -> Problem | None:
    """Refuse lookups whose result follows a session's settings."""
    left = _field_of(lookup.lhs)
    if isinstance(lookup, _PATTERN_LOOKUPS) and not isinstance(
        left, (*_STABLE_AS_TEXT, json.KeyTransform, json.JSONField)
    ):
        problem = (
            f"it searches the text of a {type(left).__name__}, which follows DateStyle and other settings of a session"
        )
        return "E012", problem, "Compare with constants, or store the text in a column."
    kind = _temporal_kind(left)
    for right in _compared(lookup.rhs):
        other = _temporal_kind_of(right)
        if kind and other == "text":
            problem = "it compares a date or time with a text, which is read as the session's settings say"
            return "E012", problem, "Write the constant as a date or time, or Cast() neither."
        if kind and other and kind != other:
            problem = "it compares a date with a time, which every session does in its own time zone"
            return "E012", problem, "Compare columns of one type."
    return check_time_zone(lookup) if isinstance(lookup, lookups.YearLookup) else None


def _compared(right: Any) -> list[Any]:
    """Return the values that a lookup compares with: the items of a list, the bounds of a range."""
    if isinstance(right, ExpressionList):
        return list(right.get_source_expressions())
    if isinstance(right, Range):
        return [right.lower, right.upper]
    return list(right) if isinstance(right, (list, tuple)) else [right]


def _temporal_kind(field: Any) -> str | None:
    """Return the type of a date, time or duration, or of the bounds of a range of them; None for all else."""
    field = _base(field)
    return _kind(field) if isinstance(field, (DateField, TimeField, DurationField)) else None


def _temporal_kind_of(value: Any) -> str | None:
    """Return the same of what something is compared with: an expression, or a date; ``text`` for a text."""
    if hasattr(value, "resolve_expression"):
        field = _field_of(value)
        return "text" if isinstance(field, (CharField, TextField)) else _temporal_kind(field)
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime.datetime):
        return "DateTimeField"
    return "DateField" if isinstance(value, datetime.date) else None


def _field_of(node: Any) -> Any:
    """Return a node's output field, or None where there is none or Django cannot tell."""
    try:
        return getattr(node, "output_field", None)
    except FieldError:
        return None


def _kind(field: Any) -> str:
    return str(field.get_internal_type())


# Times --------------------------------------------------------------------------------------------------------------


def check_time_zone(node: Any) -> Problem | None:
    """Refuse parts of a time where Django leaves the time zone to the session."""
    from django.conf import settings

    field = _field_of(node.lhs)
    if settings.USE_TZ or not isinstance(field, DateField) or field.get_internal_type() != "DateTimeField":
        return None
    problem = "it takes a part of a time, which every session does in its own time zone while USE_TZ = False"
    return "E012", problem, "Set USE_TZ = True, or compare with constants that have a time zone."


def check_truncation(node: Any, parent: Any) -> Problem | None:
    """Refuse truncated times: PostgreSQL gives them without a time zone, and the session adds its own."""
    if isinstance(parent, Count) or not isinstance(_field_of(node), DateTimeField):
        return None
    problem = f"{type(node).__name__} gives a time without time zone, which every session reads in its own"
    return "E012", problem, "Pass output_field=DateField(), or use TruncDate or Extract."


def check_date_arithmetic(node: CombinedExpression, parent: Any) -> Problem | None:
    """Refuse durations added to times and dates where the session's time zone counts."""
    left, right = _field_of(node.lhs), _field_of(node.rhs)
    kinds = [kind for kind in (_temporal_kind(left), _temporal_kind(right)) if kind != "DurationField"]
    if None not in kinds and len(set(kinds)) > 1:
        problem = "it subtracts dates and times of different types, which every session does in its own time zone"
        return "E012", problem, "Subtract columns of one type."
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


def check_conversion(node: Any) -> Problem | None:
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


def check_json_aggregate(node: Any) -> Problem | None:
    """Refuse JSON arrays of what JSON holds as text that follows a session's settings."""
    return check_conversion(node) if type(node).__name__ == "JSONBAgg" else None
