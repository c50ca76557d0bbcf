"""PLAN, first half: a ResolvedRule -> a Measure, or a RuleError that says why no strategy keeps the rule exact."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from django.db.models import (
    BooleanField,
    CharField,
    Count,
    DateField,
    DecimalField,
    Field,
    IntegerField,
    Q,
    Sum,
    TextField,
    UUIDField,
    Value,
    lookups,
)
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Col
from django.db.models.fields import json, related_lookups
from django.db.models.functions import Coalesce, Now, Random, math, text
from django.db.models.functions import datetime as time_functions
from django.db.models.lookups import Lookup, Transform
from django.db.models.sql.where import NothingNode, WhereNode
from django.utils.timezone import is_naive

from trigger_kit.exceptions import RuleError
from trigger_kit.relations import ResolvedRule, nodes
from trigger_kit.rules import Level, Timing

__all__ = ["Measure", "measure_rule"]

# Text of these types does not follow a session's settings, as that of dates and floats does.
_STABLE_AS_TEXT = (BooleanField, CharField, DecimalField, IntegerField, TextField, UUIDField)
_PATTERN_LOOKUPS = (lookups.PatternLookup, lookups.Regex, lookups.IExact)
_LOOKUP_MODULES = {module.__name__ for module in (lookups, related_lookups, json, time_functions, math, text)}


@dataclass(frozen=True, eq=False)
class Measure:
    """How one source row counts towards one maintained column.

    ``argument`` is the summed or counted column, None where every row counts; ``condition`` the resolved filter.
    ``empty`` is the SQL literal of the value over no rows. ``exact_type`` is a type in which sums neither round nor
    overflow. ``may_be_nan`` says that the source column can hold NaN, which no delta takes out again.
    """

    resolved: ResolvedRule
    aggregate: type[Aggregate]
    argument: Col | None
    condition: Any
    empty: str
    exact_type: str
    may_be_nan: bool

    @property
    def column(self) -> str:
        """The maintained column's name."""
        return self.resolved.column.name

    @property
    def null_when_empty(self) -> bool:
        """Whether the value over no rows is NULL, so that arrivals and departures have to be told apart."""
        return self.empty == "NULL"


def measure_rule(resolved: ResolvedRule) -> Measure:
    """Choose the strategy of one rule.

    Raises RuleError where no strategy that exists yet keeps it exact.
    """
    _require_supported_options(resolved)
    aggregate, default = _unwrap(resolved.expression)
    if aggregate is None or type(aggregate) not in (Count, Sum):
        problem, hint = "only Count and Sum are supported yet", "Use one of them, or keep this value with .annotate()."
        raise _error(resolved, "E007", problem, hint)
    if aggregate.distinct:
        raise _error(resolved, "E008", "distinct=True is not supported yet", "Keep this value with .annotate().")
    argument, condition = _argument(resolved, aggregate), _condition(aggregate)
    _require_source_condition(resolved, condition)
    _require_stored(resolved, [argument, *nodes(condition)])
    measure = Measure(
        resolved=resolved,
        aggregate=type(aggregate),
        argument=None if type(aggregate) is Count and argument.target.primary_key else argument,
        condition=condition,
        empty=_empty_value(resolved, aggregate, default),
        exact_type=_exact_type(aggregate, argument),
        may_be_nan=type(aggregate) is Sum and isinstance(argument.target, DecimalField),
    )
    _require_fitting_field(resolved, measure, argument)
    return measure


def _error(resolved: ResolvedRule, number: str, problem: str, hint: str) -> RuleError:
    return RuleError(f"trigger_kit.{number}", f"{resolved.uri} cannot be kept: {problem}.", hint)


def _require_supported_options(resolved: ResolvedRule) -> None:
    """Refuse the timings and levels that do not exist yet."""
    rule = resolved.rule
    if rule.timing is not Timing.IMMEDIATE:
        raise _error(resolved, "E015", f"{rule.timing} is not supported yet", "Use Timing.IMMEDIATE, the default.")
    if rule.level is not Level.STATEMENT:
        raise _error(resolved, "E015", f"{rule.level} is not supported yet", "Use Level.STATEMENT, the default.")


# The aggregate ------------------------------------------------------------------------------------------------------


def _unwrap(expression: Any) -> tuple[Any, Any]:
    """Return the aggregate and its default (a Value), which Django resolves to Coalesce(aggregate, default)."""
    if isinstance(expression, Aggregate):
        return expression, None
    if type(expression) is Coalesce:
        children = expression.get_source_expressions()
        if len(children) == 2 and isinstance(children[0], Aggregate):
            return children[0], children[1]
    return None, None


def _condition(aggregate: Aggregate) -> Any:
    """Return the resolved filter; Django 6.0 wraps it in an AggregateFilter."""
    condition = aggregate.filter
    return getattr(condition, "condition", condition)


def _argument(resolved: ResolvedRule, aggregate: Aggregate) -> Col:
    """Return the aggregated column."""
    argument = aggregate.get_source_expressions()[0]
    if not isinstance(argument, Col):
        problem = f"{type(aggregate).__name__} over an expression is not supported yet"
        raise _error(resolved, "E010", problem, "Aggregate a plain column of the related model.")
    return argument


def _empty_value(resolved: ResolvedRule, aggregate: Aggregate, default: Any) -> str:
    """Return the SQL literal of the value over no rows, which must be 0 or NULL for a delta."""
    if type(aggregate) is Count:
        return "0"
    if default is None or (isinstance(default, Value) and default.value is None):
        return "NULL"
    if isinstance(default, Value) and not isinstance(default.value, str) and default.value == 0:
        return "0"
    problem = "Sum with a default other than 0 is not supported yet"
    raise _error(resolved, "E011", problem, "Use default=0, or no default on a field with null=True.")


def _exact_type(aggregate: Aggregate, argument: Col) -> str:
    """Return the type of exact sums of the argument."""
    if type(aggregate) is Count:
        return "bigint"
    return "bigint" if _has_at_most_4_bytes(_stored_field(argument)) else "numeric"


def _stored_field(argument: Col) -> Any:
    """Return the field that says how the argument is stored; a foreign key is stored as its target."""
    field: Any = argument.target
    return field.target_field if field.is_relation else field


def _has_at_most_4_bytes(field: Field[Any, Any]) -> bool:
    """Whether bigint sums of a column cannot overflow."""
    return field.get_internal_type() in {
        "AutoField",
        "IntegerField",
        "PositiveIntegerField",
        "PositiveSmallIntegerField",
        "SmallAutoField",
        "SmallIntegerField",
    }


def _require_fitting_field(resolved: ResolvedRule, measure: Measure, argument: Col) -> None:
    """Refuse a field that cannot hold the value exactly, or not its NULL."""
    source, field = _stored_field(argument), resolved.field
    is_sum = measure.aggregate is Sum
    if is_sum and not isinstance(source, (IntegerField, DecimalField)):
        problem = f"Sum of a {type(source).__name__} is not supported yet"
        raise _error(resolved, "E010", problem, "Sum an integer or decimal column.")
    if not isinstance(field, (IntegerField, DecimalField)):
        problem = f"a {type(field).__name__} does not hold a {measure.aggregate.__name__}"
        raise _error(resolved, "E013", problem, "Use an integer field or a DecimalField.")
    scale = _scale(source) if is_sum else 0
    if scale > _scale(field):
        raise _error(
            resolved,
            "E013",
            f"the sum has {scale} decimal places, more than the field keeps, so that every change would be rounded",
            f"Use a DecimalField with decimal_places={scale}."
            if scale < inf
            else "Use a DecimalField() without limits.",
        )
    if measure.null_when_empty and not field.null:
        problem = "Sum without a default is NULL over no rows, and the field is NOT NULL"
        raise _error(resolved, "E014", problem, "Write Sum(…, default=0), or set null=True on the field.")


def _scale(field: Any) -> float:
    """Return the digits after the point that a column keeps; Django 6.1's unlimited DecimalField() keeps all."""
    if not isinstance(field, DecimalField):
        return 0
    return inf if field.decimal_places is None else field.decimal_places


# The filter ---------------------------------------------------------------------------------------------------------


def _require_stored(resolved: ResolvedRule, nodes: list[Any]) -> None:
    """Refuse virtual generated columns, which are NULL in triggers."""
    for node in nodes:
        field: Any = node.target if isinstance(node, Col) else None
        if getattr(field, "generated", False) and not field.db_persist:
            raise _error(
                resolved,
                "E023",
                f"{field.model._meta.label}.{field.name} is a virtual generated column, which triggers see as NULL",
                "Set db_persist=True on it.",
            )


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


def _require_source_condition(resolved: ResolvedRule, condition: Any) -> None:
    """Refuse a filter that is not a deterministic statement about the source row."""
    if any(isinstance(value, (set, frozenset)) for value in _declared_values(resolved.rule.expression)):
        problem = "its filter lists its values in a set, which has another order in every process"
        raise _error(resolved, "E012", problem, "Use a list or a tuple.")
    for node in nodes(condition):
        if isinstance(node, (Now, Random)):
            problem = f"its filter calls {type(node).__name__}(), whose value changes although no row does"
            raise _error(resolved, "E020", problem, "Compare with a stored column or a constant.")
        if isinstance(node, Col) and node.alias != resolved.source_alias:
            problem = "its filter reads another row than the source's, which is not supported yet"
            raise _error(resolved, "E012", problem, "Filter on columns of the related row only.")
        found = _filter_problem(node)
        if found is not None:
            problem, hint = found
            raise _error(resolved, "E012", f"its filter {problem}", hint)


def _filter_problem(node: Any) -> tuple[str, str] | None:
    """Say why a node's value may follow more than the source row, and what to write instead; or return None."""
    if isinstance(node, Lookup):
        return _lookup_problem(node)
    if isinstance(node, datetime.datetime) and is_naive(node):
        problem = "compares with a time without time zone, which every session reads in its own"
        return problem, "Set USE_TZ = True, or write the time with its zone."
    if isinstance(node, str) and "\x00" in node:
        return "compares with a NUL character, which PostgreSQL text cannot hold", "Remove it."
    is_node = hasattr(node, "as_sql") or hasattr(node, "resolve_expression")
    if not is_node or isinstance(node, (WhereNode, NothingNode, Col, Value)):
        return None
    if isinstance(node, Transform) and type(node).__module__ in _LOOKUP_MODULES:
        return _time_zone_problem(node)
    return _unsupported(node)


def _unsupported(node: Any) -> tuple[str, str]:
    hint = "Use Django's field lookups on columns of the related row, compared with constants."
    return f"uses {type(node).__name__}, which is not supported yet", hint


def _lookup_problem(lookup: Lookup[Any]) -> tuple[str, str] | None:
    """Refuse lookups of other packages, and those whose result follows a session's settings."""
    if type(lookup).__module__ not in _LOOKUP_MODULES:
        return _unsupported(lookup)
    left: Any = getattr(lookup.lhs, "output_field", None)
    if isinstance(lookup, _PATTERN_LOOKUPS) and not isinstance(
        left, (*_STABLE_AS_TEXT, json.KeyTransform, json.JSONField)
    ):
        problem = (
            f"searches the text of a {type(left).__name__}, which follows DateStyle and other settings of a session"
        )
        return problem, "Compare with constants, or store the text in a column."
    right: Any = getattr(lookup.rhs, "output_field", None)
    if isinstance(left, DateField) and isinstance(right, DateField) and type(left) is not type(right):
        problem = "compares a date with a time, which every session does in its own time zone"
        return problem, "Compare columns of one type."
    return _time_zone_problem(lookup) if isinstance(lookup, lookups.YearLookup) else None


def _time_zone_problem(node: Any) -> tuple[str, str] | None:
    """Refuse parts of a time where Django leaves the time zone to the session."""
    from django.conf import settings

    field = getattr(node.lhs, "output_field", None)
    if settings.USE_TZ or not isinstance(field, DateField) or field.get_internal_type() != "DateTimeField":
        return None
    problem = "takes a part of a time, which every session does in its own time zone while USE_TZ = False"
    return problem, "Set USE_TZ = True, or compare with constants that have a time zone."
