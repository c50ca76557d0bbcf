"""DECLARE: a queryset that is written down, and made when the rule that it stands in is resolved.

A queryset cannot be made inside ``Meta``, because models are not loaded yet, and a migration could not hold it.
``Rows`` records a model's label and the calls; the models are those at hand when a query takes it: today's, or those
of a migration's state.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, Never

from django.apps import apps as live_apps
from django.core.exceptions import AppRegistryNotReady, FieldError
from django.db.models import Exists, FilteredRelation, Model, QuerySet, Subquery
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import BaseExpression
from django.db.models.sql import Query

from trigger_kit.notation import (
    Arguments,
    arguments,
    canonical,
    children,
    describe,
    describe_arguments,
    literal,
    parts,
)

__all__ = ["EXAMPLE", "SLICE", "Call", "Rows", "RowsError", "RowsQuery", "refuse_querysets"]

# The name of the call that a slice is recorded as.
SLICE = "[]"
_METHODS = (
    "filter",
    "exclude",
    "annotate",
    "alias",
    "order_by",
    "reverse",
    "distinct",
    "values",
    "values_list",
    "exists",
)
# What errors show as the way out.
EXAMPLE = "Rows('library.Review').filter(book=OuterRef('pk')).order_by('-created', '-pk').values('text')[:1]"


class RowsError(FieldError):
    """Rows that cannot be made of the models at hand; ``hint`` is the way out."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(f"{problem}. {hint}")
        self.problem, self.hint = problem, hint


class UnknownTypeError(FieldError, AttributeError):
    """The type of a subquery over Rows, asked for before the rows are made.

    Django asks for it in passing too, and goes on where there is no such attribute.
    """


class Call(NamedTuple):
    """A method of a queryset and its arguments; a slice is called ``SLICE``, its arguments are the bounds."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def written(self, arguments: str) -> str:
        """Return the call as source text, with the text of its arguments; a slice has its bounds for them."""
        if self.name != SLICE:
            return f".{self.name}({arguments})"
        return f"[{':'.join('' if bound is None else str(bound) for bound in self.args)}]"


# Subquery and Exists are typed to take a queryset: a type checker lets what is based on Any pass for one.
_Queryset: Any = object


class Rows(_Queryset):  # type: ignore[misc]
    """A queryset that is written down: a model's label, and the calls that Django's querysets know.

    It goes wherever a queryset goes in an expression or a filter, in a rule and in ``annotate()`` alike::

        last_review = models.TextField(null=True, editable=False)
        …
        reviews = Rows("library.Review").filter(book=OuterRef("pk")).order_by("-created", "-pk")
        Denormalize("last_review", Subquery(reviews.values("text")[:1]))

    that is inside ``Subquery``, ``Exists`` and ``ArraySubquery``, and behind ``__in``. Each method returns other Rows;
    what is given to it is copied, so that nobody can change it later. The rows are all that the table has, those of
    ``QuerySet(model)``: no manager of the model's hides any.

    ``label`` is ``"app_label.Model"``. For a model that may be swapped, write ``Rows(settings.AUTH_USER_MODEL)``.
    """

    __slots__ = ("calls", "label")
    label: str
    calls: tuple[Call, ...]

    def __init__(self, label: str) -> None:
        if isinstance(label, type) and issubclass(label, Model):
            raise TypeError(f"Rows takes the label of a model, not the model: Rows({label._meta.label!r}).")
        if not isinstance(label, str) or [part.isidentifier() for part in label.split(".")] != [True, True]:
            raise TypeError(f"Rows takes the label of a model, such as Rows('library.Review'), not {label!r}.")
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "calls", ())

    @classmethod
    def of(cls, label: str, calls: Sequence[Call]) -> Rows:
        """Return the Rows of some recorded calls; their arguments are not looked at again."""
        rows = cls(label)
        object.__setattr__(rows, "calls", tuple(calls))
        return rows

    # Calls ----------------------------------------------------------------------------------------------------------

    def filter(self, *conditions: Any, **lookups: Any) -> Rows:
        """Return the rows that fulfil all of these."""
        _require_expressions("filter", conditions, "conditions, such as Q(…)")
        return self._and("filter", conditions, dict(sorted(lookups.items())))

    def exclude(self, *conditions: Any, **lookups: Any) -> Rows:
        """Return the rows that do not fulfil all of these."""
        _require_expressions("exclude", conditions, "conditions, such as Q(…)")
        return self._and("exclude", conditions, dict(sorted(lookups.items())))

    def annotate(self, *expressions: Any, **named: Any) -> Rows:
        """Return the rows, each with these values as well."""
        _require_expressions("annotate", (*expressions, *named.values()), "expressions, such as Count(…)")
        return self._and("annotate", expressions, _ordered(named))

    def alias(self, *expressions: Any, **named: Any) -> Rows:
        """Return the rows with names for these values, which later calls may use."""
        _require_expressions("alias", (*expressions, *named.values()), "expressions, such as Count(…)")
        return self._and("alias", expressions, _ordered(named))

    def order_by(self, *names: Any) -> Rows:
        """Return the rows in this order; without names, in none."""
        _require_names("order_by", names)
        return self._and("order_by", names)

    def reverse(self) -> Rows:
        """Return the rows in the opposite order."""
        return self._and("reverse")

    def distinct(self, *names: str) -> Rows:
        """Return each row once."""
        _require_names("distinct", names)
        return self._and("distinct", names)

    def values(self, *names: Any, **named: Any) -> Rows:
        """Return these columns of the rows."""
        _require_names("values", names)
        _require_expressions("values", tuple(named.values()), "expressions, such as Count(…)")
        return self._and("values", names, _ordered(named))

    def values_list(self, *names: Any, flat: bool = False, named: bool = False) -> Rows:
        """Return these columns of the rows; inside an expression, the same as ``values()``."""
        _require_names("values_list", names)
        return self._and("values_list", names, {"flat": True} if flat else {"named": True} if named else {})

    def exists(self) -> Exists:
        """Return the condition that there is such a row: Django's ``Exists`` over these Rows."""
        return Exists(self)

    def __getitem__(self, index: Any) -> Rows:
        if not isinstance(index, slice):
            raise TypeError(
                f"{self!r} is written down and not fetched, so that it has no row {index!r}: write a slice, such as "
                "Rows(…).order_by(…)[:1], and put it into Subquery(…), Exists(…) or behind __in."
            )
        if index.step is not None:
            raise ValueError("A slice of Rows has no step: write Rows(…)[start:stop].")
        bounds = index.start, index.stop
        if any(bound is not None and (type(bound) is not int or bound < 0) for bound in bounds):
            raise ValueError(f"The bounds of a slice of Rows are numbers from 0 on, not {bounds!r}.")
        return self._and(SLICE, bounds)

    def __getattr__(self, name: str) -> Never:
        if name.startswith("_") or not hasattr(QuerySet, name):
            raise AttributeError(f"'Rows' object has no attribute {name!r}")
        raise AttributeError(f"Rows has no {name}(). It has {', '.join(_METHODS)} and slices.")

    def _and(self, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Rows:
        for value in (*args, *(kwargs or {}).values()):
            _require_writable(name, value)
        call = Call(name, *copy.deepcopy((args, kwargs or {})))
        return type(self).of(self.label, (*self.calls, call))

    # Use ------------------------------------------------------------------------------------------------------------

    @property
    def query(self) -> RowsQuery:
        """What ``Subquery`` and its relatives take out of a queryset."""
        return RowsQuery(self)

    @property
    def model_label(self) -> str:
        """The label as today's model writes it, where there is one: its case changes no text."""
        try:
            return str(live_apps.get_model(self.label)._meta.label)
        except (AppRegistryNotReady, LookupError):
            return self.label

    def queryset(self, apps: Any = None) -> QuerySet[Any]:
        """Return the queryset over the models of a registry, by default today's.

        Raises RowsError where there is no such model, and what Django raises for calls that it does not understand.
        """
        rows: Any = QuerySet(self._model(apps or live_apps))
        for name, args, kwargs in self.calls:
            rows = rows[slice(*args)] if name == SLICE else getattr(rows, name)(*args, **kwargs)
        return rows  # type: ignore[no-any-return]

    def resolve_expression(self, query: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the query as Django resolves a queryset, over the models of the query that it becomes part of."""
        made: Any = self.queryset(_apps_of(query))
        return made.resolve_expression(query, *args, **kwargs)

    def _model(self, apps: Any) -> type[Model]:
        try:
            model: type[Model] = apps.get_model(self.label)
        except LookupError:
            raise RowsError(f"there is no model {self.label}", _other_label(self.label, apps)) from None
        if model._meta.swapped:
            hint = f"Write Rows(settings.{model._meta.swappable}), with from django.conf import settings."
            raise RowsError(f"{self.label} is swapped for {model._meta.swapped}, and has no table", hint)
        return model

    # A value --------------------------------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> Never:
        raise AttributeError("Rows do not change: each of their methods returns other Rows.")

    def __delattr__(self, name: str) -> Never:
        raise AttributeError("Rows do not change: each of their methods returns other Rows.")

    def __reduce__(self) -> Any:
        return type(self).of, (self.label, self.calls)

    def __copy__(self) -> Rows:
        return self

    def __deepcopy__(self, memo: Any) -> Rows:
        return self

    def __eq__(self, other: object) -> bool:
        return canonical(self) == canonical(other) if isinstance(other, Rows) else NotImplemented

    def __hash__(self) -> int:
        return hash(canonical(self))

    def __repr__(self) -> str:
        return describe(self)


class RowsQuery(BaseExpression):
    """What stands in a ``Subquery`` for the query of Rows, until it is resolved and there is one."""

    subquery = False

    def __init__(self, rows: Rows, *, is_exists: bool = False) -> None:
        super().__init__()
        self.rows = rows
        self.is_exists = is_exists

    def clone(self) -> RowsQuery:
        """Return another one, which ``Subquery`` writes into."""
        return copy.copy(self)

    def exists(self) -> RowsQuery:
        """Return what ``Exists`` asks for: whether there is a row."""
        return RowsQuery(self.rows, is_exists=True)

    def resolve_expression(self, query: Any = None, *args: Any, **kwargs: Any) -> Query:  # type: ignore[override]
        """Return the query over the models of the query around it, resolved as that of a queryset would be."""
        made = self.rows.queryset(_apps_of(query)).query.clone()
        made.subquery = True
        made = made.exists() if self.is_exists else made
        return made.resolve_expression(query, *args, **kwargs)  # type: ignore[no-any-return]

    @property
    def output_field(self) -> Never:  # type: ignore[override]
        """Not known yet: it follows from the models at hand, and Django would keep the type of others."""
        raise UnknownTypeError(
            f"The type of a subquery over {self.rows!r} is not known before it is resolved: "
            "say it, as in Subquery(…, output_field=BooleanField())."
        )


def _apps_of(query: Any) -> Any:
    return None if query is None else query.model._meta.apps


def _other_label(label: str, apps: Any) -> str:
    """Suggest a model of the app that is named, or of another one where there is no such app."""
    labels = sorted(model._meta.label for model in apps.get_models())
    app_label = label.partition(".")[0]
    own = [name for name in labels if name.partition(".")[0] == app_label] or labels
    # What all of them begin with would make any two alike.
    start = len(app_label) + 1 if own is not labels else 0
    names = {name[start:].lower(): name for name in own}
    similar = get_close_matches(label[start:].lower(), names, n=1)
    return f"Did you mean {names[similar[0]]!r}?" if similar else f"Choose one of: {', '.join(own)}."


# The shape of calls -------------------------------------------------------------------------------------------------


def _require_expressions(method: str, values: Sequence[Any], what: str) -> None:
    wrong = [value for value in values if not _is_expression(value)]
    if wrong:
        raise TypeError(f"{method}() takes {what}, not {wrong[0]!r}.")


def _require_names(method: str, values: Sequence[Any]) -> None:
    wrong = [value for value in values if not isinstance(value, str) and not _is_expression(value)]
    if wrong:
        raise TypeError(f"{method}() takes names of columns, not {wrong[0]!r}.")


def _is_expression(value: Any) -> bool:
    is_one = hasattr(value, "resolve_expression") or isinstance(value, FilteredRelation)
    return is_one and not isinstance(value, type)


def _require_writable(method: str, value: Any) -> None:
    """Refuse what cannot be written into a migration, or would be another thing the next time that it is read."""
    for part in parts(value):
        refuse_querysets(part, f"Rows.{method}()")
        if isinstance(part, Iterator):
            raise TypeError(f"{method}() cannot hold an iterator, which can be read once only: use a list.")
        if isinstance(part, Model):
            raise TypeError(f"{method}() cannot hold {part!r}, a row of today's: compare with its key.")


def refuse_querysets(value: Any, where: str) -> None:
    """Raise TypeError for a queryset, which models must be loaded for and no migration can hold."""
    query = getattr(value, "query", None) if isinstance(value, Subquery) else value
    if isinstance(query, (QuerySet, Query)):
        raise TypeError(f"{where} cannot hold a queryset: write it down as Rows, such as {EXAMPLE}.")


def _ordered(named: dict[str, Any]) -> dict[str, Any]:
    """Return named values in the order of their names, unless one is made of another."""
    paths = [part for value in named.values() for part in parts(value) if isinstance(part, str)]
    is_chained = any(path.removeprefix("-").split(LOOKUP_SEP)[0] in named for path in paths)
    return named if is_chained else dict(sorted(named.items()))


# Notation -----------------------------------------------------------------------------------------------------------


@arguments.register
def _subquery_arguments(subquery: Subquery) -> Arguments | None:
    """Return what a subquery over Rows was made of; Django does not record it."""
    if not isinstance(subquery.query, RowsQuery):
        return None
    extra: dict[str, Any] = {"template": subquery.template, **subquery.extra}
    if extra["template"] == type(subquery).template:
        del extra["template"]
    own = {"output_field": vars(subquery)["output_field"]} if "output_field" in vars(subquery) else {}
    return (subquery.query.rows,), own | extra


@arguments.register
def _relation_arguments(relation: FilteredRelation) -> Arguments:
    return (relation.relation_name,), {"condition": relation.condition}


@children.register
def _children_of_rows(rows: Rows) -> list[Any]:
    return [value for call in rows.calls for value in (*call.args, *call.kwargs.values())]


@describe.register
def _describe_rows(rows: Rows) -> str:
    calls = [call.written(describe_arguments(call.args, call.kwargs)) for call in rows.calls]
    return f"Rows({literal(rows.model_label)}){''.join(calls)}"


@canonical.register
def _canonical_rows(rows: Rows) -> str:
    app_label, _, model_name = rows.label.partition(".")
    return f"Rows({app_label}.{model_name.lower()}){''.join(map(_canonical_call, rows.calls))}"


def _canonical_call(call: Call) -> str:
    # Keywords are in an order of ours already, and annotate() minds theirs where one is made of another.
    named = [f"{name}={canonical(value)}" for name, value in call.kwargs.items()]
    return call.written(", ".join([*map(canonical, call.args), *named]))
