"""OPERATE: read a QUEUED column exactly, what is stored and what is pending together, in any query."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.core.exceptions import FieldError
from django.db.models import Expression, F, Field, Model
from django.db.models.expressions import Col
from django.utils.deconstruct import deconstructible

from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, queued
from trigger_kit.plan.strategy import kept_column
from trigger_kit.resolve.columns import cast_type
from trigger_kit.resolve.declared import rules_of
from trigger_kit.resolve.rule import resolve, rule_uri
from trigger_kit.rules import Denormalize, Timing
from trigger_kit.sql.text import identifier, plain_name

__all__ = ["Exact", "exact"]


@deconstructible(path="trigger_kit.Exact")
class Exact(F):
    """The true value of a kept column: for ``Timing.QUEUED`` what is stored plus what is pending, else the column.

    Used like ``F()``, also over relations, in ``annotate()``, ``filter()``, ``order_by()`` and arithmetic::

        Author.objects.annotate(books=Exact("num_books")).filter(books__gt=3).order_by("-books")
        Book.objects.order_by(Exact("author__num_books").desc())

    One statement reads both, so that a flush in between changes nothing. It costs one index look-up per row.

    Raises FieldError where no rule keeps the column.
    """

    def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
        """Resolve the name; a column that has nothing pending stays what it is."""
        column: Any = super().resolve_expression(*args, **kwargs)
        name: str = vars(self)["name"]
        if not isinstance(column, Col):
            raise FieldError(f"Exact({name!r}) takes the name of a column that a rule keeps.")
        field: Field[Any, Any] = column.target
        rule = next((rule for rule in rules_of(field.model) if rule.field == field.name), None)
        if rule is None:
            raise FieldError(f"Exact({name!r}): no rule keeps {rule_uri(field.model, field.name)}.")
        return _exact(column, rule, field.model)


def exact(rule: Denormalize, model: type[Model]) -> F:
    """Return the expression of a rule's true value that need not be one of its model's own."""

    class ExactRule(F):
        def resolve_expression(self, *args: Any, **kwargs: Any) -> Any:
            column: Any = super().resolve_expression(*args, **kwargs)
            return _exact(column, rule, model)

    return ExactRule(rule.field)


def _exact(column: Col, rule: Denormalize, model: type[Model]) -> Any:
    if rule.timing is not Timing.QUEUED:
        return column
    (kept,) = queued([_kept_column(rule, model)])
    return WithPending.of(column, kept)


@lru_cache(maxsize=1000)
def _kept_column(rule: Denormalize, model: type[Model]) -> KeptColumn:
    return kept_column(resolve(rule, model))


class WithPending(Expression):
    """A column and the changes of it that are in the queue; its source expressions are the column and its row's key."""

    def __init__(self, column: Col, keys: list[Col], queue: str) -> None:
        super().__init__(output_field=column.output_field)
        self.columns: list[Any] = [column, *keys]
        # Django may put something else in the columns' place, that comes from a subquery.
        self.names = [str(item.target.column) for item in self.columns]
        self.type = cast_type(column.target)
        self.queue = queue

    @classmethod
    def of(cls, column: Col, kept: KeptAggregate) -> WithPending:
        """Return the expression for a column of one alias of a query."""
        fields = {field.column: field for field in kept.resolved.model._meta.local_fields}
        keys = [Col(str(column.alias), fields[near.name]) for near in kept.aggregate.path[0].near]
        return cls(column, keys, _queue(kept.resolved.column.table))

    def get_source_expressions(self) -> list[Any]:
        """Return the column and the key."""
        return self.columns

    def set_source_expressions(self, exprs: Any) -> None:
        """Take the column and the key under other aliases."""
        self.columns = list(exprs)

    def get_group_by_cols(self) -> list[Any]:
        """Return the columns: the look-up depends on nothing else."""
        return self.columns

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return ``(column + coalesce((SELECT sum(…) FROM tk_pending_… WHERE …), 0))``."""
        stored, *keys = (compiler.compile(column)[0] for column in self.columns)
        name, *key_names = map(identifier, self.names)
        ties = [f"pending.{column} = {key}" for column, key in zip(key_names, keys, strict=True)]
        select = f"SELECT sum(pending.{name}) FROM {self.queue} AS pending WHERE {' AND '.join(ties)}"
        return f"({stored} + coalesce(({select}), 0))::{self.type}", ()


def _queue(table: str) -> str:
    """Return the queue's name as a query writes it: in the schema of its target, where Django's name has one."""
    schema, separator, _ = table.partition('"."')
    name = identifier(plain_name("tk_pending_", table))
    return f"{identifier(schema)}.{name}" if separator else name
