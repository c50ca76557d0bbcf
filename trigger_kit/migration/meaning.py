"""INSTALL: what a rule's value follows from, and whether that is what it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trigger_kit.plan.plan import Plan
from trigger_kit.plan.strategy import Measure
from trigger_kit.sql import CompiledTrigger
from trigger_kit.sql.full_values import backfill_sql

__all__ = ["is_unwritten", "new_names", "time_zones", "values_of_fields"]


def values_of_fields(plan: Plan, renamed: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what each field's value follows from: the text that computes it, and the types of all columns in it.

    ``renamed`` gives tables and columns the names that they have by now.
    """
    pattern = re.compile("|".join(rf'(?<=["{{]){re.escape(name)}(?=["}}])' for name in renamed)) if renamed else None

    def now(text: str) -> str:
        return pattern.sub(lambda match: (renamed or {})[match[0]], text) if pattern else text

    values = {}
    for measure in plan.measures:
        types = sorted((now(f'"{name}"'), kind) for name, kind in measure.resolved.column_types)
        text = re.sub(r" -- .*", "", backfill_sql(plan, [measure.column], with_pending=False), count=1)
        values[measure.resolved.rule.field] = (now(text), types)
    return values


def time_zones(triggers: Iterable[CompiledTrigger]) -> set[str]:
    """Return the time zones that parts of times are taken in."""
    return {zone for trigger in triggers for zone in re.findall(r"AT TIME ZONE ('[^']*')", trigger.text)}


def is_unwritten(measure: Measure) -> bool:
    """Whether a value follows from a generic relation, which no migration's state holds."""
    return any(hop.content_type for source in measure.resolved.sources for hop in source.path)


def new_names(old: Any, new: Any, old_names: dict[str, str]) -> dict[str, str]:
    """Return the names that the table, the columns and the many-to-many tables of a model have now, by old names."""
    renamed = {old._meta.db_table: new._meta.db_table}
    before = {field.name: field for field in (*old._meta.local_fields, *old._meta.local_many_to_many)}
    for field in (*new._meta.local_fields, *new._meta.local_many_to_many):
        was = before.get(old_names.get(field.name, field.name))
        if was is not None and was.many_to_many and field.many_to_many:
            # A swapped model, such as auth.User beside a custom one, has no table between.
            through, now = (getattr(f.remote_field.through, "_meta", None) for f in (was, field))
            if through and now and through.auto_created and now.auto_created:
                renamed |= {through.db_table: now.db_table}
                renamed |= {a.column: b.column for a, b in zip(through.local_fields, now.local_fields, strict=True)}
        elif was is not None:
            renamed[was.column] = field.column
    return {was: name for was, name in renamed.items() if was != name}
