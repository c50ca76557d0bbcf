"""PLAN, second question: whether the target's column holds the value.

Its type must take the value without loss, and NULL where the value can be NULL.
"""

from __future__ import annotations

from math import inf
from typing import Any

from django.contrib.postgres.search import SearchVector
from django.core.exceptions import FieldError
from django.db.models import (
    AutoField,
    Avg,
    BinaryField,
    BooleanField,
    CharField,
    DateField,
    DateTimeField,
    DecimalField,
    DurationField,
    Field,
    FloatField,
    GenericIPAddressField,
    IntegerField,
    JSONField,
    Max,
    Min,
    StdDev,
    Subquery,
    Sum,
    TextField,
    TimeField,
    UUIDField,
    Variance,
)
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Case, Col, CombinedExpression, ExpressionWrapper, Value
from django.db.models.functions import (
    Abs,
    Cast,
    Coalesce,
    Greatest,
    JSONArray,
    JSONObject,
    Least,
    Length,
    Ord,
    StrIndex,
)
from django.db.models.functions.text import Concat, ConcatPair
from django.db.models.lookups import BuiltinLookup, IsNull
from django.db.models.sql import AND, OR, Query
from django.db.models.sql.where import WhereNode

from trigger_kit.exceptions import RuleError
from trigger_kit.expressions import First
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.resolve.sources import children, joins, nodes

__all__ = ["has_at_most_4_bytes", "require_fitting_field", "scale_of", "stored_field", "zero_of"]

_FAMILIES: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("truth value", (BooleanField,)),
    ("number", (IntegerField, AutoField, DecimalField, FloatField)),
    ("text", (CharField, TextField)),
    ("time stamp", (DateTimeField,)),
    ("date", (DateField,)),
    ("time of day", (TimeField,)),
    ("duration", (DurationField,)),
    ("UUID", (UUIDField,)),
    ("JSON value", (JSONField,)),
    ("binary value", (BinaryField,)),
    ("network address", (GenericIPAddressField,)),
)


def require_fitting_field(resolved: ResolvedRule) -> None:
    """Raise RuleError where the column cannot hold the value, or not its NULL."""
    field, expression = stored_field(resolved.field), resolved.expression
    value = _output_field(resolved)
    _require_aggregates(resolved)
    wanted, offered = _family(field), _family(value)
    if wanted != offered:
        raise _misfit(
            resolved, f"{_article(offered)} does not fit {_article(type(resolved.field).__name__)}", field, value
        )
    if isinstance(expression, (Col, First, Max, Min)) and _length(value) > _length(field):
        length = f"up to {value.max_length} characters" if value.max_length else "any length"
        problem = f"texts of {length} do not fit into {field.max_length} characters"
        raise _misfit(resolved, problem, field, value)
    if resolved.field.is_relation and _names_others(field, value):
        key = f"{field.model._meta.label}.{field.name}"
        raise RuleError(
            "trigger_kit.E013",
            f"{resolved.uri} cannot be kept: it is a foreign key to {key}, and the value comes from "
            f"{value.model._meta.label}.{value.name}.",
            f"Give it a key of {field.model._meta.label}.",
        )
    if offered == "array" and _family(field.base_field) != _family(value.base_field):
        raise _misfit(resolved, "the array's elements are of another type than the field's", field, value)
    if not resolved.field.null and _may_be_null(expression, _optional_aliases(resolved)):
        raise RuleError(
            "trigger_kit.E014",
            f"{resolved.uri} cannot be kept: its value can be NULL, and the field is NOT NULL.",
            "Set null=True on the field, or give the value a default: Sum(…, default=0), Coalesce(…, Value('')).",
        )


_NO_EXTREMA = ("truth value", "UUID", "JSON value", "binary value")
_NUMBERS = ("number",)
_AMOUNTS = ("number", "duration")


def _require_aggregates(resolved: ResolvedRule) -> None:
    """Refuse aggregates that PostgreSQL does not have for a type."""
    for node in nodes(resolved.expression):
        if not isinstance(node, (Avg, Max, Min, StdDev, Sum, Variance)):
            continue
        try:
            family = _family(stored_field(node.get_source_expressions()[0].output_field))
        except FieldError:
            continue
        known = {StdDev: _NUMBERS, Variance: _NUMBERS, Sum: _AMOUNTS, Avg: _AMOUNTS}.get(type(node))
        if family in _NO_EXTREMA if known is None else family not in known:
            name = type(node).__name__
            raise RuleError(
                "trigger_kit.E013",
                f"{resolved.uri} cannot be kept: PostgreSQL has no {name.lower()}() of {_article(family)}.",
                "Use BoolOr() or BoolAnd() for truth values, First('…', order_by=…) for one of several values.",
            )


def _names_others(key: Any, value: Any) -> bool:
    """Whether a value is known to come from another column than the one that a foreign key names."""
    model = getattr(value, "model", None)
    return model is not None and (model._meta.db_table, value.column) != (key.model._meta.db_table, key.column)


def _misfit(resolved: ResolvedRule, problem: str, field: Any, value: Any) -> RuleError:
    return RuleError(
        "trigger_kit.E013",
        f"{resolved.uri} cannot be kept: {problem}.",
        f"Use {_article(type(value).__name__)}, or Cast() the value to what {_article(type(field).__name__)} holds.",
    )


def _output_field(resolved: ResolvedRule) -> Any:
    """Return the field that says what type the value has."""
    problem: Any = "it has no output_field"
    try:
        value = resolved.expression.output_field
    except Exception as error:  # Django raises FieldError, or OutputFieldIsNoneError from 5.x on
        value, problem = None, error
    if value is None:
        raise RuleError(
            "trigger_kit.E013",
            f"{resolved.uri} cannot be kept: the type of its value is not known ({problem}).",
            "Pass output_field=… to the expression, and let a queryset give one column: .values('…').",
        )
    return stored_field(value)


def stored_field(field: Any) -> Any:
    """Return the field that says how a value is stored: that of a foreign key's target, or of a generated value."""
    while field.is_relation:
        field = field.target_field
    return field.output_field if getattr(field, "generated", False) else field


def _family(field: Any) -> str:
    """Return what kind of value a field holds; assignment within a kind keeps the value or fails loudly."""
    if hasattr(field, "base_field") and hasattr(field, "size"):
        return "array"
    for name, kinds in _FAMILIES:
        if isinstance(field, kinds):
            return name
    return type(field).__name__


def _article(family: str) -> str:
    return f"an {family}" if family[0].lower() in "aeio" else f"a {family}"


def _length(field: Any) -> float:
    return (
        getattr(field, "max_length", None) or inf
        if isinstance(field, CharField)
        else (inf if isinstance(field, TextField) else 0)
    )


def zero_of(field: Any) -> str | None:
    """Return the SQL literal that stands for no value in a NOT NULL column, or None where there is none."""
    if field.null:
        return None
    return {"truth value": "false", "number": "0", "text": "''", "duration": "'0'"}.get(_family(stored_field(field)))


# NULL ---------------------------------------------------------------------------------------------------------------

_NEVER_NULL = (Concat, ConcatPair, IsNull, JSONArray, JSONObject, SearchVector)
# These can be NULL although nothing that they read is.
_NULL_OF_SOMETHING = {
    "IndexTransform",
    "KT",
    "KeyTextTransform",
    "KeyTransform",
    "NullIf",
    "RangeEndsWith",
    "RangeStartsWith",
}


def _optional_aliases(resolved: ResolvedRule) -> set[str]:
    """Return the aliases whose row may be missing."""
    return {join.alias for join in joins(resolved.query) if join.is_optional}


def _may_be_null(node: Any, optional: set[str], known: frozenset[tuple[str, str]] = frozenset()) -> bool:
    """Whether an expression's value can be NULL; in doubt it can.

    ``optional`` are the aliases whose row may be missing, ``known`` the columns that are not NULL where this is asked.
    """
    if isinstance(node, Value):
        return node.value is None
    if isinstance(node, Col):
        nullable = node.target.null or getattr(node.target, "generated", False) or node.alias in optional
        return bool(nullable) and _key(node) not in known
    if isinstance(node, (Query, Subquery)):
        return type(node).__name__ not in {"Exists", "ArraySubquery"}
    if isinstance(node, Aggregate):
        return node.empty_result_set_value is None
    if isinstance(node, _NEVER_NULL):
        return False
    if isinstance(node, (Coalesce, Greatest, Least)):  # NULL only where all of them are
        return all(_may_be_null(child, optional, known) for child in node.get_source_expressions())
    if isinstance(node, Case):
        results = [(case.result, known | _known_where(case.condition)) for case in node.cases]
        return any(_may_be_null(result, optional, there) for result, there in [*results, (node.default, known)])
    if isinstance(node, WhereNode):
        known |= _decided_otherwise(node)
    elif type(node).__name__ in _NULL_OF_SOMETHING or not hasattr(node, "get_source_expressions"):
        return type(node).__name__ in _NULL_OF_SOMETHING
    return any(_may_be_null(child, optional, known) for child in children(node))


def _key(column: Col) -> tuple[str, str]:
    return str(column.alias), str(column.target.column)


def _known_where(condition: Any) -> frozenset[tuple[str, str]]:
    """Return columns that are not NULL where a condition holds."""
    if isinstance(condition, WhereNode):
        if condition.negated or condition.connector != AND:
            return frozenset()
        return frozenset().union(*map(_known_where, condition.children))
    is_strict = isinstance(condition, BuiltinLookup) and not isinstance(condition, IsNull)
    if isinstance(getattr(condition, "lhs", None), Col) and (is_strict or _asks_null(condition, False)):
        return frozenset({_key(condition.lhs)})
    return frozenset()


def _decided_otherwise(where: WhereNode) -> frozenset[tuple[str, str]]:
    """Return columns whose NULL another part of a condition decides: false in an AND, true in an OR."""
    absent = where.connector != AND
    parts = [part for part in where.children if where.connector in {AND, OR} and _asks_null(part, absent)]
    columns = [getattr(part, "lhs", None) for part in parts]
    return frozenset(_key(column) for column in columns if isinstance(column, Col))


def _asks_null(lookup: Any, value: bool) -> bool:
    return isinstance(lookup, IsNull) and lookup.rhs is value


# Numbers ------------------------------------------------------------------------------------------------------------


def has_at_most_4_bytes(field: Field[Any, Any]) -> bool:
    """Whether bigint sums of a column cannot overflow."""
    return field.get_internal_type() in {
        "AutoField",
        "IntegerField",
        "PositiveIntegerField",
        "PositiveSmallIntegerField",
        "SmallAutoField",
        "SmallIntegerField",
    }


def scale_of(node: Any) -> float:
    """Return the most digits after the point that a number can have; infinite where nobody knows."""
    if isinstance(node, Col):
        return _field_scale(stored_field(node.target))
    if isinstance(node, Value):
        return _value_scale(node.value)
    if isinstance(node, Field):
        return _field_scale(node)
    if isinstance(node, CombinedExpression):
        left, right = scale_of(node.lhs), scale_of(node.rhs)
        larger = max(left, right)
        return {"+": larger, "-": larger, "%%": larger, "*": left + right}.get(node.connector, inf)
    if isinstance(node, (Abs, ExpressionWrapper)):
        return scale_of(node.get_source_expressions()[0])
    if isinstance(node, Cast):
        return _field_scale(node.output_field)
    if isinstance(node, (Length, Ord, StrIndex)):
        return 0
    if isinstance(node, Coalesce):
        return max(map(scale_of, node.get_source_expressions()))
    if isinstance(node, Case):
        return max(scale_of(result) for result in [*(case.result for case in node.cases), node.default])
    return inf


def _field_scale(field: Any) -> float:
    if isinstance(field, IntegerField):
        return 0
    if isinstance(field, DecimalField):
        return inf if field.decimal_places is None else field.decimal_places
    return inf


def _value_scale(value: Any) -> float:
    from decimal import Decimal

    if value is None or isinstance(value, int):
        return 0
    if isinstance(value, Decimal) and value.is_finite():
        return max(0, -int(value.as_tuple().exponent))
    return inf
