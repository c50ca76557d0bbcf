"""OBSERVE: checks of ``TRIGGER_KIT["BATCHED_BACKFILL"]``: what it names, and whether that can be filled in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps as live_apps
from django.core import checks
from django.core.checks import CheckMessage

from trigger_kit.conf import setting
from trigger_kit.exceptions import RuleError
from trigger_kit.migration.batched import batched_fields, names_without_rule
from trigger_kit.plan.live import plan_sound
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.declared import declared

__all__ = ["check_fills"]


def check_fills(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check what the settings let be filled in batches."""
    if not setting("BATCHED_BACKFILL"):
        return []
    plans = plan_sound(declared(live_apps))  # Other checks tell of rules that are refused.
    messages: list[CheckMessage] = [message for item in plans for message in _check_plan(item)]
    names = {name for model in live_apps.get_models() for name in (model._meta.app_label, model._meta.label)}
    uris = [kept.resolved.uri for item in plans for kept in item.kept_columns]
    return messages + [
        checks.Warning(
            f'TRIGGER_KIT["BATCHED_BACKFILL"] names {name!r}, which is no app, model or rule.',
            hint="Write app, app.Model or app.Model:field as manage.py trigger_kit ls does, or take it out.",
            id="trigger_kit.W016",
        )
        for name in names_without_rule(uris)
        if name not in names
    ]


def _check_plan(item: Plan) -> Iterator[CheckMessage]:
    for kept in item.kept_columns:
        try:
            batched_fields(item, [kept.resolved.rule.field])
        except RuleError as error:
            yield checks.Error(error.reason, hint=error.hint, obj=item.model, id=error.check_id)
