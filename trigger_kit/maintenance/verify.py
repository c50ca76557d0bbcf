"""OPERATE: compare stored with true values, and change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.apps import apps as live_apps
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from trigger_kit.database.catalog import Placement
from trigger_kit.database.converge import runner
from trigger_kit.database.installation import require_postgresql
from trigger_kit.database.records import read_records, write_record
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.comparison import Drift, Pass, find_drift, passes, reading
from trigger_kit.maintenance.ranges import Sample, about_rows, pieces, range_rows, sampled
from trigger_kit.resolve.declared import declared, select
from trigger_kit.resolve.rule import rule_uri
from trigger_kit.rules import Denormalize, Timing
from trigger_kit.sql.text import identifier

__all__ = [
    "KEPT",
    "LastVerification",
    "Progress",
    "Verification",
    "as_committed",
    "chosen_passes",
    "explained",
    "find_drift",
    "last_verification",
    "record_result",
    "set_commits",
    "verify",
]

# Of each rule so many drifts are kept; the others are counted, and told to whoever listens.
KEPT = 1_000
VERIFIED = "verified"
# A role without the right, a database that is read-only: nobody expects a record there.
UNWRITABLE = {"25006", "42501"}
# The server goes or is gone; a table, a column, a function or a schema is not there.
GONE = {"57P01", "57P02", "57P03", "08000", "08001", "08003", "08004", "08006"}
UNDEFINED = ("42P01", "42703", "42883", "3F000")
HINTS = dict.fromkeys(UNDEFINED, " Is everything migrated?") | {
    "57014": " A smaller batch size makes statements shorter.",
}

OnDrift = Callable[[Drift], None]


@dataclass(frozen=True)
class Progress:
    """How far verify is: the URIs that it looks at together, the rows behind it, and about how many there are."""

    uris: tuple[str, ...]
    rows: int
    of_rows: int


@dataclass(frozen=True)
class Verification:
    """What verify found.

    ``rows`` has the number of rows that it looked at and ``drifted`` those that have drifted, both by rule; ``drifts``
    the first thousand of each rule. ``sample`` says that it looked at some rows only, ``unrecorded`` why the database
    does not remember the result, where that is unexpected.
    """

    rows: dict[str, int] = field(default_factory=dict)
    drifts: list[Drift] = field(default_factory=list)
    drifted: Counter[str] = field(default_factory=Counter)
    sample: bool = False
    unrecorded: list[str] = field(default_factory=list)

    @property
    def in_sync(self) -> bool:
        """Whether no row has drifted."""
        return not self.drifted.total()

    def add(self, drift: Drift) -> None:
        """Count a drift, and keep it if there is room."""
        self.drifted[drift.uri] += 1
        if self.drifted[drift.uri] <= KEPT:
            self.drifts.append(drift)


@dataclass(frozen=True)
class LastVerification:
    """What the last verify of a rule found, and when."""

    at: datetime
    rows: int
    drifted: int
    sample: bool


def verify(
    uris: Sequence[str] = (),
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int | None = None,
    sample: str | int | None = None,
    on_drift: OnDrift | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Compare stored with true values, of all rules or some, and change nothing.

    The true value is Django's own, as ``annotate()`` gives it, assignment-cast to the column's type. One statement
    reads both, so that a writer in flight raises no false alarm. A large table is read in ranges of its primary key,
    of ``batch_size`` rows or of as many as is cheap, each in a short READ ONLY transaction. A row that is there all the
    time under the same key is looked at exactly once. Inside an open transaction everything is part of that.

    ``sample``, a number of rows or a percentage like ``"1%"``, looks at rows drawn at random only. ``on_drift`` is
    called with every drift; it must not use the connection that is read from. The result keeps a thousand per rule.

    Raises TriggerKitError for an unknown rule, and where values cannot be read.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size is 1 or more, not {batch_size}.")
    drawn = None if sample is None else Sample.of(sample)
    connection = require_postgresql(using)
    found = Verification(sample=drawn is not None)
    chosen = chosen_passes(uris, using)
    told = on_progress or (lambda progress: None)
    rules = [(one.model, rule) for one in chosen for _, rule in one.rules]
    with explained(connection), as_committed(connection, rules):
        for one in chosen:
            with explained(connection, one):
                _verify_pass(connection, one, batch_size, drawn, found, on_drift, told)
    record_result(connection, chosen, found)
    return found


def chosen_passes(uris: Sequence[str] = (), using: str = DEFAULT_DB_ALIAS) -> list[Pass]:
    """Return the passes that compute all rules or some.

    Raises TriggerKitError for a name that means no rule.
    """
    rules = {
        model: [(rule_uri(model, rule.field), rule) for rule in declared_rules]
        for model, declared_rules in declared(live_apps)
        if router.allow_migrate_model(using, model)
    }
    wanted = set(select(uris, [uri for pairs in rules.values() for uri, _ in pairs]))
    return [
        one for model, pairs in rules.items() for one in passes(model, [pair for pair in pairs if pair[0] in wanted])
    ]


def last_verification(connection: BaseDatabaseWrapper, schema: str) -> dict[str, LastVerification]:
    """Return what the last verify found by rule URI, for the targets in a schema."""
    return {
        uri: LastVerification(
            datetime.fromisoformat(value["at"]), value["rows"], value["drifted"], bool(value["sample"])
        )
        for uri, value in read_records(connection, schema, VERIFIED).items()
    }


@contextmanager
def explained(connection: BaseDatabaseWrapper, one: Pass | None = None, verb: str = "read") -> Iterator[None]:
    """Turn an error of the database into a TriggerKitError that says what could not be read, or repaired, and why."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        state = getattr(error.__cause__, "sqlstate", None) or ""
        if one is None or not state or state in GONE:
            raise TriggerKitError(f"The database {connection.alias!r} cannot be {verb}: {reason}") from error
        names = ", ".join(uri for uri, _ in one.rules)
        raise TriggerKitError(f"The values of {names} cannot be {verb}: {reason}.{HINTS.get(state, '')}") from error


def _verify_pass(
    connection: BaseDatabaseWrapper,
    one: Pass,
    batch_size: int | None,
    sample: Sample | None,
    found: Verification,
    on_drift: OnDrift | None,
    told: Callable[[Progress], None],
) -> None:
    """Look at the rows of one pass, piece by piece."""
    uris = tuple(uri for uri, _ in one.rules)
    found.rows.update(dict.fromkeys(uris, 0))
    with reading(connection):
        of_rows = about_rows(connection, one.model)
    if sample is None:
        parts = pieces(connection, one.model, batch_size or range_rows(connection, one))
    else:
        of_rows = sample.of_rows(of_rows)
        parts = sampled(connection, one.model, sample)
    told(Progress(uris, 0, of_rows))
    for piece in parts:
        with reading(connection), closing(one.drifts(connection, piece.condition)) as drifts:
            for drift in drifts:
                found.add(drift)
                if on_drift is not None:
                    on_drift(drift)
        for uri in uris:
            found.rows[uri] += piece.rows
        told(Progress(uris, found.rows[uris[0]], of_rows))


# Records ------------------------------------------------------------------------------------------------------------


def record_result(connection: BaseDatabaseWrapper, chosen: Iterable[Pass], found: Verification) -> None:
    """Let the database remember what passes have found, where it can; inside an open transaction it does not.

    A failure is taken note of, whatever it is: the result counts.
    """
    if connection.in_atomic_block:
        return
    try:
        for one in chosen:
            _record_pass(connection, one, found)
    except (DatabaseError, InterfaceError) as error:
        if getattr(error.__cause__, "sqlstate", "") not in UNWRITABLE:
            found.unrecorded.append(str(error).strip().partition("\n")[0])


def _record_pass(connection: BaseDatabaseWrapper, one: Pass, found: Verification) -> None:
    """Remember the result of one pass, where rules are installed.

    A sample without drift does not make forgotten that there was some.
    """
    schema = Placement(connection, one.model._meta.db_table).schema
    with connection.cursor() as cursor:
        # A row of one's own would be in the way of one that comes by logical replication, and stop it.
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(%s)"
            " AND oid NOT IN (SELECT srrelid FROM pg_subscription_rel))",
            [f'{identifier(schema)}."tk_state"'],
        )
        if cursor.fetchone() == (False,):
            return
    with transaction.atomic(using=connection.alias):
        known = read_records(connection, schema, VERIFIED) if found.sample else {}
        for uri, _ in one.rules:
            drifted = found.drifted[uri]
            if found.sample and not drifted and known.get(uri, {}).get("drifted"):
                continue
            value = {
                "at": datetime.now(UTC).isoformat(),
                "rows": found.rows[uri],
                "drifted": drifted,
                "sample": found.sample,
            }
            write_record(connection, schema, uri, VERIFIED, value)


# DEFERRED rules in an open transaction ------------------------------------------------------------------------------


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
