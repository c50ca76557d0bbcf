"""OBSERVE: system checks. What cannot be kept exact is refused at declaration, with the reason and the way out.

``trigger_kit.E001`` … ``E021`` come from the rooms that find the problem, as RuleError; ``docs/checks.md`` lists all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps as live_apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import connections, router
from django.db.models import Model

from trigger_kit.exceptions import RuleError
from trigger_kit.measures import Measure, measure_rule
from trigger_kit.planner import require_acyclic
from trigger_kit.registry import declared
from trigger_kit.relations import resolve, rule_uri
from trigger_kit.rules import Denormalize

__all__ = ["check_rules", "check_setup"]


def check_rules(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check every declared rule."""
    models = [model for model in live_apps.get_models() if app_configs is None or model._meta.app_config in app_configs]
    messages: list[CheckMessage] = []
    measures: list[Measure] = []
    for model in models:
        for message, measure in _check_model(model):
            messages += [message] if message else []
            measures += [measure] if measure else []
    try:
        require_acyclic([measure.resolved for measure in measures])
    except RuleError as error:
        messages.append(_error(error, None))
    return messages


def check_setup(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that rules can be installed at all: the commands know rules, and a database is PostgreSQL."""
    from trigger_kit.autodetector import is_patched

    messages: list[CheckMessage] = []
    if not declared(live_apps):
        return messages
    if not is_patched():
        messages.append(
            checks.Warning(
                "makemigrations and migrate do not see rules: another app has replaced their autodetector.",
                hint="Put 'trigger_kit' after that app in INSTALLED_APPS.",
                id="trigger_kit.W001",
            )
        )
    if not any(connections[alias].vendor == "postgresql" for alias in settings.DATABASES):
        messages.append(
            Error(
                "Rules are declared, but no database of this project is PostgreSQL.",
                hint="Use django.db.backends.postgresql for the database that holds these models.",
                id="trigger_kit.E022",
            )
        )
    return messages


def _check_model(model: type[Model]) -> Iterator[tuple[CheckMessage | None, Measure | None]]:
    value = getattr(model._meta, "denormalizations", ())
    if not isinstance(value, (list, tuple)) or any(not isinstance(rule, Denormalize) for rule in value):
        yield (
            Error(
                f"{model._meta.label}: Meta.denormalizations must be a list of Denormalize(…).",
                hint='For example [Denormalize("num_books", Count("books"))].',
                obj=model,
                id="trigger_kit.E001",
            ),
            None,
        )
        return
    seen: set[str] = set()
    for rule in value:
        uri = rule_uri(model, rule.field)
        if rule.field in seen:
            yield (
                Error(
                    f"{uri} is kept by two rules.",
                    hint="Remove one of them: a column can equal one expression only.",
                    obj=model,
                    id="trigger_kit.E004",
                ),
                None,
            )
            continue
        seen.add(rule.field)
        yield from _check_rule(rule, model)


def _check_rule(rule: Denormalize, model: type[Model]) -> Iterator[tuple[CheckMessage | None, Measure | None]]:
    try:
        measure = measure_rule(resolve(rule, model))
    except RuleError as error:
        yield _error(error, model), None
        return
    yield None, measure
    for message in (*_check_databases(measure), *_check_advice(measure)):
        yield message, None


def _check_databases(measure: Measure) -> Iterator[CheckMessage]:
    resolved = measure.resolved
    for alias in settings.DATABASES:
        places = [router.allow_migrate_model(alias, model) for model in (resolved.model, resolved.source_model)]
        if len(set(places)) > 1:
            yield Error(
                f"{resolved.uri} reads {resolved.source_model._meta.label}, which the database router keeps apart "
                f"from {resolved.model._meta.label} (database {alias!r}): triggers do not reach across databases.",
                hint="Keep both models in one database, or keep the value with .annotate().",
                obj=resolved.model,
                id="trigger_kit.E018",
            )


def _check_advice(measure: Measure) -> Iterator[CheckMessage]:
    resolved = measure.resolved
    if resolved.field.editable:
        yield checks.Warning(
            f"{resolved.uri} is editable, so forms and the admin offer a value that the database will not take.",
            hint=f"Set editable=False on {resolved.field.name}.",
            obj=resolved.model,
            id="trigger_kit.W002",
        )
    (hop,) = resolved.path
    foreign_key: Any = next(f for f in resolved.source_model._meta.concrete_fields if f.column == hop.source.name)
    if not (foreign_key.db_index or foreign_key.unique or foreign_key.name in _leading_fields(resolved.source_model)):
        yield checks.Warning(
            f"{resolved.uri}: {hop.source.table}.{hop.source.name} has no index, so every new or re-keyed "
            f"{resolved.model._meta.label} reads the whole table.",
            hint=f"Set db_index=True on {resolved.source_model._meta.label}.{foreign_key.name}.",
            obj=resolved.model,
            id="trigger_kit.W003",
        )


def _leading_fields(model: type[Model]) -> set[str]:
    """Return the fields that an index over all rows begins with."""
    indexes: list[Any] = [*model._meta.indexes, *model._meta.constraints]
    whole = [item for item in indexes if getattr(item, "condition", None) is None and getattr(item, "fields", None)]
    return {item.fields[0].lstrip("-") for item in whole} | {names[0] for names in model._meta.unique_together}


def _error(error: RuleError, model: type[Model] | None) -> CheckMessage:
    return Error(error.reason, hint=error.hint, obj=model, id=error.check_id)
