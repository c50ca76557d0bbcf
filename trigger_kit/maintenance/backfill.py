"""OPERATE: fill the columns of rules for the rows that exist already, while writers go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from trigger_kit.database.batches import OnBatch, Progress, fill_all, interrupted
from trigger_kit.database.catalog import Placement, find_triggers
from trigger_kit.database.filling import Filling, count_differing, drawn_keys
from trigger_kit.database.installation import chosen_plans, require_postgresql
from trigger_kit.exceptions import TriggerKitError
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.declared import select
from trigger_kit.sql.compilation import compile_plan

__all__ = ["Forecast", "backfill"]

SAMPLE = 1_000


@dataclass(frozen=True)
class Forecast:
    """What a backfill of one target would do.

    ``rows`` are about as many as are left, of ``total``; ``differing`` of ``sampled`` rows would be changed.
    """

    label: str
    fields: tuple[str, ...]
    total: int
    rows: int
    sampled: int
    differing: int

    @property
    def changes(self) -> int:
        """About as many rows as would be changed."""
        return round(self.rows * self.differing / self.sampled) if self.sampled else 0


def backfill(
    uris: Sequence[str] = (),
    *,
    using: str = DEFAULT_DB_ALIAS,
    batch_size: int | None = None,
    rate: int | None = None,
    dry_run: bool = False,
    restart: bool = False,
    on_batch: OnBatch | None = None,
) -> list[Progress] | list[Forecast]:
    """Fill the columns of all rules, or of some, for the rows that exist already; return what was done per target.

    Goes through each target in the order of its primary key, in batches that are short transactions of their own, so
    that writers go on all the while; the values are exact at the end. What was interrupted goes on where it stopped,
    unless ``restart`` is set. Batches are as large as can be written in a moment, or of ``batch_size`` rows; ``rate``
    is the most rows per second. Inside an open transaction everything is part of that. ``dry_run`` changes nothing and
    returns what would be done.

    Raises TriggerKitError for an unknown rule, for rules whose triggers are not installed, and where somebody else is
    filling the same target.
    """
    for name, number in (("batch_size", batch_size), ("rate", rate)):
        if number is not None and number < 1:
            raise ValueError(f"{name} is 1 or more, not {number}.")
    connection = require_postgresql(using)
    plans = _installed_plans(connection, uris)
    chosen = set(select(uris, [uri for plan in plans for uri in plan.uris]))
    fillings = [
        Filling.of(plan, [kept.column for kept in plan.kept_columns if kept.resolved.uri in chosen]) for plan in plans
    ]
    if dry_run:
        pairs = zip(plans, fillings, strict=True)
        return [_forecast(connection, plan, filling, restart=restart) for plan, filling in pairs]
    return [
        fill_all(connection, filling, batch_size=batch_size, rate=rate, restart=restart, on_batch=on_batch)
        for filling in fillings
    ]


def _installed_plans(connection: BaseDatabaseWrapper, uris: Sequence[str]) -> list[Plan]:
    """Return the plans of rules, a target before the sources that it sums: filling these then sends changes on."""
    plans = chosen_plans(uris, connection.alias)[::-1]
    for plan in plans:
        names = {trigger.name for trigger in compile_plan(plan)}
        if not find_triggers(connection, names, Placement(connection, plan.target).schema):
            raise TriggerKitError(
                f"The triggers of {plan.model._meta.label} are not installed in the database {connection.alias!r}: "
                "what is filled now would not be kept. Run manage.py migrate first."
            )
    return plans


def _forecast(connection: BaseDatabaseWrapper, plan: Plan, filling: Filling, *, restart: bool) -> Forecast:
    place = Placement(connection, plan.target)
    progress = interrupted(connection, filling, place, restart=restart)
    with transaction.atomic(using=connection.alias):
        keys = drawn_keys(connection, filling, place, progress.total, SAMPLE)
        differing = count_differing(connection, filling, plan, keys)
    left = max(progress.total - progress.rows, 0)
    return Forecast(filling.label, filling.fields, progress.total, left, len(keys), differing)
