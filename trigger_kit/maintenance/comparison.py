"""OPERATE: the statements that compare stored with true values, one for all rules of a model that one pass computes.

The true value is Django's own: ``annotate(…)`` with the rule's expression, assignment-cast to the column's type.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Expression, F, Field, FloatField, Model, QuerySet
from django.utils import timezone

from trigger_kit.database.converge import runner
from trigger_kit.database.filling import PLANNING
from trigger_kit.exact import exact
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.resolve.columns import column_of, key_type
from trigger_kit.rules import Denormalize

__all__ = ["Drift", "Key", "KeyRange", "KeySet", "Pass", "Values", "find_drift", "passes", "plan_of", "reading"]

# The columns of a primary key, each as the driver gives it or as text: PostgreSQL reads this as the column's type.
Key = tuple[Any, ...]
# Whether they differ, the stored and the true value.
Values = tuple[Any, ...]
Rules = Sequence[tuple[str, Denormalize]]
_SET_PLANNING = f"SELECT {', '.join(f'set_config({name!r}, %s, true)' for name in PLANNING)}"


@dataclass(frozen=True)
class Drift:
    """A row whose stored value is not the value of the rule's expression."""

    uri: str
    key: Any
    stored: Any
    true: Any


class KeyRange(Expression):
    """The condition that a row's primary key comes after one key, and not after another one."""

    conditional = True

    def __init__(self, model: type[Model], after: Key | None = None, upto: Key | None = None) -> None:
        super().__init__(output_field=BooleanField())
        self.after, self.upto = after, upto
        self.columns: list[Any] = [F(field.attname) for field in model._meta.pk_fields]
        self.bounds = [(sign, key) for sign, key in ((">", after), ("<=", upto)) if key is not None]

    def get_source_expressions(self) -> list[Any]:
        """Return the columns of the key."""
        return self.columns

    def set_source_expressions(self, exprs: Any) -> None:
        """Take the columns of the key as they are resolved."""
        self.columns = list(exprs)

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return ``(columns) > (key) AND (columns) <= (key)``, in the order of the index."""
        row = ", ".join(compiler.compile(column)[0] for column in self.columns)
        marks = ", ".join(["%s"] * len(self.columns))
        conditions = [f"({row}) {sign} ({marks})" for sign, _ in self.bounds]
        return " AND ".join(conditions) or "true", tuple(value for _, key in self.bounds for value in key)


class KeySet(KeyRange):
    """The condition that a row's primary key is one of some."""

    def __init__(self, model: type[Model], keys: Sequence[Key]) -> None:
        super().__init__(model)
        self.arrays = [list(values) for values in zip(*keys, strict=True)]
        self.types = [key_type(column_of(field)) for field in model._meta.pk_fields]

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return ``column = ANY (array)``, or ``(columns) IN (arrays)``."""
        row = [compiler.compile(column)[0] for column in self.columns]
        arrays = [f"%s::{kind}[]" for kind in self.types]
        if len(row) == 1:
            return f"{row[0]} = ANY ({arrays[0]})", tuple(self.arrays)
        return f"({', '.join(row)}) IN (SELECT * FROM unnest({', '.join(arrays)}))", tuple(self.arrays)


@dataclass(frozen=True)
class Pass:
    """Rules of one model, each with its URI, whose true values one query computes."""

    model: type[Model]
    rules: tuple[tuple[str, Denormalize], ...]

    def drifts(self, connection: BaseDatabaseWrapper, condition: KeyRange | None = None) -> Generator[Drift]:
        """Yield the drifts of all rows or of some, in the order of their keys, as the server sends them."""
        with _planned_by_index(connection) if isinstance(condition, KeySet) else nullcontext():
            for key, values in self._compared(connection, *self.statement(connection, condition)):
                for (uri, _), (differs, stored, true) in zip(self.rules, values, strict=True):
                    if differs:
                        yield Drift(uri, key[0] if len(key) == 1 else key, stored, true)

    def drifted_keys(self, connection: BaseDatabaseWrapper, condition: KeyRange, *, limit: int) -> list[Key]:
        """Return the keys of the first drifted rows, in their order."""
        sql, params = self.statement(connection, condition)
        return [key for key, _ in self._compared(connection, f"{sql} LIMIT {limit}", params)]

    def rows(self, connection: BaseDatabaseWrapper, keys: Sequence[Key]) -> dict[Key, dict[str, Values]]:
        """Return the values of the rows with some keys, by key and rule, where such rows are."""
        sql, params = self.statement(connection, KeySet(self.model, keys), drifted_only=False)
        uris = [uri for uri, _ in self.rules]
        with _planned_by_index(connection):
            return {
                key: dict(zip(uris, values, strict=True)) for key, values in self._compared(connection, sql, params)
            }

    def _compared(
        self, connection: BaseDatabaseWrapper, sql: str, params: tuple[Any, ...]
    ) -> Iterator[tuple[Key, list[Values]]]:
        """Yield each row's key and per rule whether it differs, the stored and the true value."""
        width = len(self.model._meta.pk_fields)
        for row in _stream(connection, sql, params):
            values = row[width:]
            yield row[:width], [values[start : start + 3] for start in range(0, len(values), 3)]

    def statement(
        self,
        connection: BaseDatabaseWrapper,
        condition: KeyRange | None = None,
        *,
        drifted_only: bool = True,
    ) -> tuple[str, tuple[Any, ...]]:
        """Return the statement: a row's key, then per rule whether it differs, the stored and the true value."""
        keys = [field.attname for field in self.model._meta.pk_fields]
        names = [f"key_{number}" for number in range(len(keys))]
        inner, selected, differences = list(names), list(names), []
        for number, (_, rule) in enumerate(self.rules):
            stored, computed = f"stored_{number}", f"computed_{number}"
            field = self.model._meta.get_field(rule.field)
            kind = field.cast_db_type(connection)  # type: ignore[union-attr]
            inner += [stored, computed]
            differences.append(_differs(field, kind, stored, computed))
            selected += [differences[-1], stored, f"{computed}::{kind}"]
        values = [f"tk_{what}_{number}" for number in range(len(self.rules)) for what in ("stored", "true")]
        # The active time zone is the request's; the rule's is the project's.
        with timezone.override(None):
            rows = _annotated(self.model, self.rules, connection.alias, condition)
            query = rows.order_by().values_list(*keys, *values).query
            sql, params = query.get_compiler(connection=connection).as_sql()
        text = f"SELECT {', '.join(selected)} FROM ({sql}) AS compared ({', '.join(inner)})"
        if drifted_only:
            text += f" WHERE {' OR '.join(f'({difference})' for difference in differences)}"
        return f"{text} ORDER BY {', '.join(names)}", params


def passes(model: type[Model], rules: Rules) -> list[Pass]:
    """Return the passes that compute rules of one model: those that join the same tables the same way share one.

    One more aggregate over the same joined rows costs little, while other joins would multiply the rows that it sees.
    """
    found: list[Pass] = []
    for item in rules:
        joins = _joins(model, [item])
        for number, other in enumerate(found):
            if joins == _joins(model, other.rules) == _joins(model, [*other.rules, item]):
                found[number] = Pass(model, (*other.rules, item))
                break
        else:
            found.append(Pass(model, (item,)))
    return found


def find_drift(connection: BaseDatabaseWrapper, uri: str, model: type[Model], rule: Denormalize) -> list[Drift]:
    """Return the rows of one rule whose stored value differs from Django's own, in key order."""
    return list(Pass(model, ((uri, rule),)).drifts(connection))


def plan_of(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the plan that the server has for a statement; ``Total Cost`` and ``Plan Rows`` are estimates."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params or None)
        plan: dict[str, Any] = cursor.fetchone()[0][0]["Plan"]
    return plan


@contextmanager
def reading(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Run in a short READ ONLY transaction, or as part of one that is open already.

    Row-level security is off in it: a policy that would hide rows is an error then, not another value.
    """
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=connection.alias):
        runner(connection)("SET TRANSACTION READ ONLY")
        runner(connection)("SET LOCAL row_security = off")
        yield


@contextmanager
def _planned_by_index(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Let a statement find what belongs to a few rows by index, in the open transaction.

    The planner thinks that dear, and would read a whole source for them, perhaps while they are locked.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(f'current_setting({name!r})' for name in PLANNING)}")
        before = cursor.fetchone()
        cursor.execute(_SET_PLANNING, list(PLANNING.values()))
    yield
    with connection.cursor() as cursor:
        cursor.execute(_SET_PLANNING, list(before))


def _annotated(model: type[Model], rules: Rules, alias: str | None, condition: KeyRange | None) -> QuerySet[Any]:
    """Return the rows with what they store and Django's own value; no manager of the model's hides any."""
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    if condition is not None:
        rows = rows.filter(condition)
    for number, (_, rule) in enumerate(rules):
        rows = rows.annotate(**{f"tk_stored_{number}": exact(rule, model), f"tk_true_{number}": rule.expression})
    return rows


def _joins(model: type[Model], rules: Rules) -> frozenset[Any]:
    """Return what the query of rules joins, and how."""
    query = _annotated(model, rules, None, None).query
    return frozenset(
        (alias, table.identity, table.join_type)
        for alias, table in query.alias_map.items()
        if query.alias_refcount[alias]
    )


def _stream(connection: BaseDatabaseWrapper, sql: str, params: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield rows as they come. A cursor of the server's would do too, but is not planned for parallel workers."""
    with connection.cursor() as cursor, connection.wrap_database_errors:
        rows: Any = cursor.cursor.stream(sql, params or None)
        with connection.execute_wrapper(_refuse):
            yield from rows


def _refuse(*args: Any) -> Any:
    """Refuse another statement on a connection that is sending rows; the driver would wait for ever."""
    raise TriggerKitError("verify is reading from this connection: what it calls must use another one.")


def _differs(field: Field[Any, Any] | Any, kind: Any, stored: str, computed: str) -> str:
    """Return the condition under which stored and computed differ; floats may, in their last digits."""
    differ = f"{stored} IS DISTINCT FROM {computed}::{kind}"
    if not isinstance(field, FloatField):
        return differ
    # Comparing before subtracting keeps infinities and NaN out of the difference.
    close = f"abs({stored} - {computed}::float8) <= 1e-9 * greatest(abs({stored}), abs({computed}::float8))"
    finite = "'{Infinity,-Infinity,NaN}'::float8[]"
    finite = f"{stored} <> ALL ({finite}) AND {computed}::float8 <> ALL ({finite})"
    return f"{differ} AND NOT coalesce(CASE WHEN {finite} THEN {close} END, false)"
