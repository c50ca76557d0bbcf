"""OPERATE: compare stored with true values, and change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import FloatField, Model
from django.utils import timezone

from trigger_kit.catalog import Placement
from trigger_kit.compiler.text import identifier
from trigger_kit.exact import exact
from trigger_kit.installation import require_postgresql, runner
from trigger_kit.registry import declared, select
from trigger_kit.relations import rule_uri
from trigger_kit.rules import Denormalize, Timing

__all__ = ["Drift", "Verification", "as_committed", "find_drift", "set_commits", "verify"]


@dataclass(frozen=True)
class Drift:
    """A row whose stored value is not the value of the rule's expression."""

    uri: str
    key: Any
    stored: Any
    true: Any


@dataclass(frozen=True)
class Verification:
    """What verify found: the rules that it looked at, the rows of each, and every drift."""

    rows: dict[str, int]
    drifts: list[Drift]

    @cached_property
    def in_sync(self) -> bool:
        """Whether no row has drifted."""
        return not self.drifts


def verify(uris: Sequence[str] = (), *, using: str = DEFAULT_DB_ALIAS) -> Verification:
    """Compare stored with true values, of all rules or some, and change nothing.

    The true value is Django's own: ``Model._base_manager.annotate(…)``, assignment-cast to the column's type. One
    statement reads both, so that a writer in flight raises no false alarm.
    """
    connection = require_postgresql(using)
    pairs = {
        rule_uri(model, rule.field): (model, rule)
        for model, rules in declared(live_apps)
        for rule in rules
        if router.allow_migrate_model(using, model)
    }
    chosen = {uri: pairs[uri] for uri in select(uris, list(pairs))}
    with _read_only(connection), as_committed(connection, chosen.values()):
        drifts = [drift for uri, (model, rule) in chosen.items() for drift in find_drift(connection, uri, model, rule)]
        rows = {uri: model._base_manager.using(using).count() for uri, (model, _) in chosen.items()}
    return Verification(rows, drifts)


@contextmanager
def as_committed(connection: BaseDatabaseWrapper, rules: Iterable[tuple[type[Model], Denormalize]]) -> Iterator[None]:
    """See the values that DEFERRED rules would have if the open transaction committed now, and leave it as it is."""
    tables = {model._meta.db_table for model, rule in rules if rule.timing is Timing.DEFERRED}
    if not tables or not connection.in_atomic_block:
        yield
        return
    try:
        with transaction.atomic(using=connection.alias):
            set_commits(connection, tables, "IMMEDIATE")
            yield
            raise _TakeBackError
    except _TakeBackError:
        return


def set_commits(connection: BaseDatabaseWrapper, tables: Iterable[str], mode: str) -> None:
    """Let the open transaction bring its notes about some targets up to date now, or (``DEFERRED``) at commit again."""
    names = {f'{identifier(Placement(connection, table).schema)}."tk_commit"' for table in tables}
    if names:
        runner(connection)(f"SET CONSTRAINTS {', '.join(sorted(names))} {mode}")


class _TakeBackError(Exception):
    """Ends a savepoint whose changes must not stay."""


def find_drift(connection: BaseDatabaseWrapper, uri: str, model: type[Model], rule: Denormalize) -> list[Drift]:
    """Return the rows of one rule whose stored value differs from Django's own, in key order."""
    field = model._meta.get_field(rule.field)
    kind = field.cast_db_type(connection)  # type: ignore[union-attr]
    keys = [key.attname for key in model._meta.pk_fields]
    rows = model._base_manager.using(connection.alias).annotate(tk_stored=exact(rule, model), tk_true=rule.build())
    # The active time zone is the request's; the rule's is the project's.
    with timezone.override(None):
        sql, params = rows.order_by().values_list(*keys, "tk_stored", "tk_true").query.sql_with_params()
    names = [f"key_{number}" for number in range(len(keys))]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(names)}, stored, computed::{kind} "
            f"FROM ({sql}) AS compared ({', '.join(names)}, stored, computed) "
            f"WHERE {_differs(field, kind)} ORDER BY {', '.join(names)}",
            params,
        )
        found = cursor.fetchall()
    return [Drift(uri, key[0] if len(key) == 1 else tuple(key), stored, true) for *key, stored, true in found]


def _differs(field: Any, kind: Any) -> str:
    """Return the condition under which stored and computed differ; floats may, in their last digits."""
    differ = f"stored IS DISTINCT FROM computed::{kind}"
    if not isinstance(field, FloatField):
        return differ
    # Comparing before subtracting keeps infinities and NaN out of the difference.
    close = "abs(stored - computed::float8) <= 1e-9 * greatest(abs(stored), abs(computed::float8))"
    finite = "'{Infinity,-Infinity,NaN}'::float8[]"
    finite = f"stored <> ALL ({finite}) AND computed::float8 <> ALL ({finite})"
    return f"{differ} AND NOT coalesce(CASE WHEN {finite} THEN {close} END, false)"


@contextmanager
def _read_only(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Run in a READ ONLY transaction, or as part of one that is open already."""
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic(using=connection.alias):
        runner(connection)("SET TRANSACTION READ ONLY")
        yield
