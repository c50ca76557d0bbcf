"""INSTALL: what a database shall have for the rules of one target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from django.conf import settings

from trigger_kit.notation import canonical
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.meaning import FieldName, meaning
from trigger_kit.resolve.rule import ResolvedRule
from trigger_kit.rules import Denormalize
from trigger_kit.sql.compilation import compile_plan
from trigger_kit.sql.django import depends_on_time_zone
from trigger_kit.sql.owners import Belongings
from trigger_kit.sql.trigger import CompiledTrigger

__all__ = ["Wanted", "value_digest"]


@dataclass(frozen=True, eq=False)
class Wanted:
    """The triggers of one target, and what each field's value means.

    ``unfilled`` are the fields that a later migration fills: ``plan`` serves until then. ``fields`` are all of them, in
    an order by which two states tell what has become of each; by default that of the plan.
    """

    plan: Plan
    unfilled: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ()

    @cached_property
    def values(self) -> Mapping[str, str]:
        """The digest of the meaning of each field's value; empty for one that is filled later."""
        kept_columns = {kept.resolved.rule.field: kept for kept in self.plan.kept_columns}
        names = self.fields or tuple(kept_columns)
        return {name: "" if name in self.unfilled else value_digest(kept_columns[name].resolved) for name in names}

    @property
    def label(self) -> str:
        """The label of the target's model."""
        return self.plan.model._meta.label

    @property
    def table(self) -> str:
        """The target's table."""
        return self.plan.target

    @cached_property
    def triggers(self) -> tuple[CompiledTrigger, ...]:
        """The triggers, in the order to create them."""
        return compile_plan(self.plan)

    @cached_property
    def belongings(self) -> Belongings:
        """What the target has in a database, and to whom it belongs."""
        return Belongings(self.plan)

    @cached_property
    def is_like(self) -> tuple[object, ...]:
        """What is equal where two want the same."""
        return self.table, tuple((t.name, t.on, t.digest) for t in self.triggers), tuple(self.values.items())

    def columns(self, fields: object) -> list[str]:
        """Return the columns of some fields."""
        return [kept.column for kept in self.plan.kept_columns if kept.resolved.rule.field in fields]  # type: ignore[operator]


def value_digest(
    resolved: ResolvedRule,
    now: Callable[[FieldName], FieldName] = lambda name: name,
    written_now: Denormalize | None = None,
) -> str:
    """Return the digest of what a rule's value means, in the time zone of the project where it matters.

    ``now`` gives fields the names that they have by now, and ``written_now`` is the rule as it is written by now, where
    it is that of an older state.
    """
    written = canonical((written_now or resolved.rule).expression)
    zone = f" in {settings.TIME_ZONE}" if depends_on_time_zone(resolved) else ""
    return meaning(resolved, written + zone, now)
