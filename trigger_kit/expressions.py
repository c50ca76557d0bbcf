"""DECLARE: two aggregates that Django does not have, for rules and for ``.annotate()`` alike.

A queryset cannot be built inside ``Meta``, because models are not loaded yet. ``Exists`` and ``First`` take a path in
place of one, as ``Count`` and ``Max`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import FieldError, FullResultSet
from django.db.models import BooleanField, F, OrderBy, Q
from django.db.models.aggregates import Aggregate
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import ColPairs
from django.db.models.sql import Query
from django.utils.deconstruct import deconstructible

__all__ = ["Exists", "First"]


@deconstructible(path="trigger_kit.Exists")
class Exists(Aggregate):
    """Whether a related row exists, ``filter`` permitting.

    ::

        has_reviews = models.BooleanField(default=False, editable=False)
        …
        Denormalize("has_reviews", Exists("reviews", filter=Q(reviews__public=True)))

    As an aggregate: ``(COUNT(review.id) FILTER (WHERE review.public) > 0)``.
    """

    function = "COUNT"
    name = "Exists"
    output_field = BooleanField()
    empty_result_set_value = False
    arity = 1
    allows_composite_expressions = True

    def __init__(self, path: Any, filter: Q | None = None, **extra: Any) -> None:  # noqa: A002 Django's own name
        super().__init__(path, filter=filter, **extra)

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        """Resolve the path; of a composite primary key, one column tells as much as all."""
        resolved: Any = super().resolve_expression(*args, **kwargs)
        argument = resolved.source_expressions[0]
        if isinstance(argument, ColPairs):
            resolved.source_expressions = [argument.get_cols()[0]]
        return resolved

    def as_sql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:  # type: ignore[override]
        """Return ``(COUNT(…) > 0)``."""
        sql, params = super().as_sql(compiler, connection, **extra_context)
        return f"({sql} > 0)", params


@deconstructible(path="trigger_kit.First")
class First(Aggregate):
    """The value of the first related row in an order; ties are broken by the primary key of this row.

    ::

        last_title = models.CharField(max_length=200, null=True, editable=False)
        …
        Denormalize("last_title", First("posts__title", order_by="-posts__created"))

    ``order_by`` takes what ``QuerySet.order_by()`` takes, from this model on: names, ``F("…").desc()``, or a list of
    them. A path that ends at the related rows themselves stands for their key, which a foreign key can hold:
    ``First("posts", order_by="-posts__created")``. Without any row the value is NULL, or ``default``.

    As an aggregate: ``(ARRAY_AGG(post.title ORDER BY post.created DESC, post.id) FILTER (WHERE post.id IS NOT
    NULL))[1]``; a rule looks the row up instead.
    """

    function = "ARRAY_AGG"
    name = "First"

    def __init__(
        self,
        path: Any,
        order_by: Any = (),
        filter: Q | None = None,  # noqa: A002 Django's own name
        default: Any = None,
        **extra: Any,
    ) -> None:
        if not isinstance(path, (str, F)):
            raise TypeError(f"First takes the path of a column, such as First('posts__title'), not {path!r}.")
        orders = order_by if isinstance(order_by, (list, tuple)) else (order_by,)
        if not all(isinstance(order, str) or hasattr(order, "resolve_expression") for order in orders):
            raise TypeError(f"First: order_by takes names of columns or expressions, not {order_by!r}.")
        name = path if isinstance(path, str) else path.name  # type: ignore[attr-defined]
        self.path = name
        super().__init__(F(name), *map(_order, orders), filter=filter, default=default, **extra)

    @property
    def value(self) -> Any:
        """The column whose value is taken."""
        return self.source_expressions[0]

    @property
    def order(self) -> Sequence[Any]:
        """The order of the rows; once resolved, its last column is the primary key of the related row."""
        return self.source_expressions[1:]

    def resolve_expression(
        self,
        query: Any = None,
        allow_joins: bool = True,
        reuse: Any = None,
        summarize: bool = False,
        for_save: bool = False,
    ) -> Any:
        """Resolve the columns, and add the related row's primary key as the last of the order."""
        clone = self.copy()
        keys = [OrderBy(F(name)) for name in _key_names(query, self.path)]
        clone.source_expressions = [*self.source_expressions, *keys]
        resolved: Any = super(First, clone).resolve_expression(query, allow_joins, reuse, summarize, for_save)
        aggregate = resolved if isinstance(resolved, First) else resolved.get_source_expressions()[0]
        if hasattr(aggregate.value.output_field, "base_field"):
            # PostgreSQL would make one array of more dimensions out of them.
            raise FieldError(f"First cannot take an array or a range ({self.path!r}); use Subquery(…[:1]) for it")
        return resolved

    def _resolve_output_field(self) -> Any:
        return self.value.output_field

    def as_sql(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:  # type: ignore[override]
        """Return the first element of an ordered array, over the rows that there are."""
        value, params = compiler.compile(self.value)
        conditions = []
        orders, order_params, filter_params = [], [], []
        for order in self.order:
            sql, more = compiler.compile(order)
            orders.append(sql)
            order_params += more
        key, more = compiler.compile(self.order[-1].expression)
        conditions.append(f"{key} IS NOT NULL")
        filter_params += more
        if self.filter is not None:
            try:
                condition, more = compiler.compile(getattr(self.filter, "condition", self.filter))
            except FullResultSet:
                condition, more = "true", []
            conditions.append(condition)
            filter_params += more
        return (
            f"(ARRAY_AGG({value} ORDER BY {', '.join(orders)}) FILTER (WHERE {' AND '.join(conditions)}))[1]",
            [*params, *order_params, *filter_params],
        )


def _order(order: Any) -> OrderBy:
    """Return an order as ``order_by()`` understands it."""
    if isinstance(order, str):
        return OrderBy(F(order.lstrip("-")), descending=order.startswith("-"))
    return order if isinstance(order, OrderBy) else OrderBy(order)


def _key_names(query: Query, path: str) -> list[str]:
    """Return the path of the primary key of the row that the last to-many step leads to; the rest is its value."""
    names = path.split(LOOKUP_SEP)
    relation, model, seen = 0, None, 0
    for position in range(1, len(names) + 1):
        steps, *_, rest = query.names_to_path(names[:position], query.get_meta())
        if rest:
            break
        if any(step.m2m or not step.direct for step in steps[seen:]):
            relation, model = position, steps[-1].to_opts
        seen = len(steps)
    if model is None:
        raise FieldError(f"First takes a path over related rows, such as 'posts__title'; {path!r} is none.")
    return [LOOKUP_SEP.join([*names[:relation], key.attname]) for key in model.pk_fields]
