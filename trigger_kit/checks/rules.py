"""OBSERVE: system checks. What cannot be kept exact is refused at declaration, with the reason and the way out.

Most come from the room that finds the problem, as RuleError; ``docs/checks.md`` lists all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from django.apps import apps as live_apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.db import DatabaseError, InterfaceError, connections, router
from django.db.models import Avg, Model

from trigger_kit.database.routing import is_kept_apart
from trigger_kit.exceptions import RuleError
from trigger_kit.migration.patches import is_patched
from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn
from trigger_kit.plan.plan import plan_all
from trigger_kit.plan.strategy import kept_column, serve_averages
from trigger_kit.resolve.declared import declared, rules_of
from trigger_kit.resolve.rule import resolve, rule_uri
from trigger_kit.resolve.sources import joins
from trigger_kit.rules import Denormalize, Guard

__all__ = ["check_homes", "check_rules", "check_setup"]


def check_rules(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check every declared rule."""
    models = [model for model in live_apps.get_models() if app_configs is None or _is_among(model, app_configs)]
    messages = [message for model in models for message in _check_option(model)]
    sound = {} if messages else _planned()
    kept_columns: list[KeptColumn] = []
    for model in models:
        for message, kept in _check_model(model, sound):
            messages += [message] if message else []
            kept_columns += [kept] if kept else []
    for model in models:
        own = [kept for kept in kept_columns if kept.resolved.model is model]
        messages += [message for kept in serve_averages(own) for message in _check_cost(kept)]
    return messages + ([] if sound else list(_check_together(kept_columns)))


def _planned() -> dict[tuple[type[Model], str], KeptColumn]:
    """Return what keeps every rule, by model and field; nothing where a rule is refused, which is looked for then."""
    try:
        plans = plan_all(declared(live_apps))
    except RuleError:
        return {}
    return {(plan.model, kept.resolved.rule.field): kept for plan in plans for kept in plan.kept_columns}


def _check_together(kept_columns: Sequence[KeptColumn]) -> Iterator[CheckMessage]:
    """Check what rules have to do with each other."""
    try:
        rules: dict[type[Model], list[Denormalize]] = {}
        for kept in kept_columns:
            rules.setdefault(kept.resolved.model, []).append(kept.resolved.rule)
        plan_all(rules.items())
    except RuleError as error:
        yield _error(error, None)


def check_setup(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check that rules can be installed at all: the commands know rules, and a database is PostgreSQL."""
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
    return messages + list(_check_writers())


def _check_writers() -> Iterator[CheckMessage]:
    """Check that Django writes targets to PostgreSQL."""
    for model, _ in declared(live_apps):
        connection = connections[router.db_for_write(model)]
        if connection.vendor != "postgresql":
            yield Error(
                f"{model._meta.label} declares rules, but Django writes it to the database {connection.alias!r}, "
                f"which is {connection.display_name}.",
                hint="Let a database router send this model to a PostgreSQL database.",
                obj=model,
                id="trigger_kit.E022",
            )


def _check_option(model: type[Model]) -> Iterator[CheckMessage]:
    """Check that a model's option is a list of rules, one per field."""
    value = getattr(model._meta, "denormalizations", ())
    if not isinstance(value, (list, tuple)) or any(not isinstance(rule, Denormalize) for rule in value):
        yield Error(
            f"{model._meta.label}: Meta.denormalizations must be a list of Denormalize(…).",
            hint='For example [Denormalize("num_books", Count("books"))].',
            obj=model,
            id="trigger_kit.E001",
        )
        return
    for field, count in Counter(rule.field for rule in rules_of(model)).items():
        if count > 1:
            yield Error(
                f"{rule_uri(model, field)} is kept by two rules.",
                hint="Remove one of them: a column can equal one expression only.",
                obj=model,
                id="trigger_kit.E004",
            )


def _check_model(
    model: type[Model], sound: Mapping[tuple[type[Model], str], KeptColumn]
) -> Iterator[tuple[CheckMessage | None, KeptColumn | None]]:
    """Check the rules of a model, of which some may be planned already."""
    first: dict[str, Denormalize] = {}
    for rule in rules_of(model):
        first.setdefault(rule.field, rule)
    for rule in first.values():
        try:
            kept = sound.get((model, rule.field)) or kept_column(resolve(rule, model))
        except RuleError as error:
            yield _error(error, model), None
            continue
        yield None, kept
        for message in (*_check_databases(kept, ()), *_check_foreign_key(kept), *_check_advice(kept)):
            yield message, None


def check_homes(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that sources are wherever their target is, where a router does not say and the database has to be asked."""
    among = [k for k in _planned().values() if app_configs is None or _is_among(k.resolved.model, app_configs)]
    known = [message for kept in among for message in _check_databases(kept, ())]
    try:
        found = [message for kept in among for message in _check_databases(kept, databases or ())]
    except (DatabaseError, InterfaceError):  # Others say that the database cannot be read.
        return []
    return [message for message in found if message not in known]


def _is_among(model: type[Model], app_configs: Sequence[Any]) -> bool:
    return model._meta.app_config in app_configs


def _check_databases(kept: KeptColumn, databases: Collection[str]) -> Iterator[CheckMessage]:
    """Check that sources are wherever their target is; ``databases`` are those that may be asked."""
    resolved = kept.resolved
    for alias, model in product(settings.DATABASES, dict.fromkeys(source.model for source in resolved.sources)):
        if is_kept_apart(alias, resolved.model, model, may_ask=alias in databases):
            yield Error(
                f"{resolved.uri} reads {model._meta.label}, which the database router keeps apart "
                f"from {resolved.model._meta.label} (database {alias!r}): triggers do not reach across databases.",
                hint="Keep both models in one database, or keep the value with .annotate().",
                obj=resolved.model,
                id="trigger_kit.E018",
            )


def _check_foreign_key(kept: KeptColumn) -> Iterator[CheckMessage]:
    """Check that deleting the row which a kept foreign key names does what its author means."""
    resolved = kept.resolved
    field: Any = resolved.field
    if not field.is_relation:
        return
    on_delete = field.remote_field.on_delete
    name = getattr(on_delete, "__name__", type(on_delete).__name__)
    if name not in {"SET_NULL", "DO_NOTHING", "DB_SET_NULL"}:
        yield Error(
            f"{resolved.uri} is a foreign key with on_delete={name}: deleting the {field.related_model._meta.label} "
            f"that it names now would delete the {resolved.model._meta.label} too, or be refused.",
            hint="Use on_delete=models.SET_NULL: the rule then names the next one.",
            obj=resolved.model,
            id="trigger_kit.E029",
        )
    elif resolved.rule.guard is Guard.RAISE and name == "SET_NULL":
        yield Error(
            f"{resolved.uri} refuses every UPDATE, and Django's on_delete=SET_NULL is one.",
            hint="Leave out guard=Guard.RAISE, or use on_delete=models.DO_NOTHING.",
            obj=resolved.model,
            id="trigger_kit.E029",
        )


def _check_cost(kept: KeptColumn) -> Iterator[CheckMessage]:
    """Tell about joins that multiply rows, and about averages that could be served."""
    resolved = kept.resolved
    many = [join for join in joins(resolved.query) if not join.hop.far_is_unique]
    parents = [join.parent for join in many]
    aliases = {join.alias: join.parent for join in joins(resolved.query)}
    if any(a is not b and not _is_above(a.alias, b.alias, aliases) for a in many for b in many) and len(parents) > 1:
        yield checks.Warning(
            f"{resolved.uri} joins two to-many relations, so that each row of one counts once per row of the other: "
            "that is what annotate() gives.",
            hint="Use distinct=True, or keep two columns by two rules.",
            obj=resolved.model,
            id="trigger_kit.W004",
        )
    if isinstance(kept, KeptAggregate) and kept.aggregate.function is Avg and not kept.served_by:
        yield checks.Info(
            f"{resolved.uri} is computed from all its rows on every change.",
            hint="Keep a Sum and a Count over the same rows as well: the average then follows from them.",
            obj=resolved.model,
            id="trigger_kit.W005",
        )


def _is_above(alias: str, other: str, parents: dict[str, str]) -> bool:
    """Whether one of two joins leads to the other."""
    for start, end in ((alias, other), (other, alias)):
        while start in parents:
            start = parents[start]
            if start == end:
                return True
    return False


def _check_advice(kept: KeptColumn) -> Iterator[CheckMessage]:
    resolved = kept.resolved
    if resolved.field.editable:
        yield checks.Warning(
            f"{resolved.uri} is editable, so forms and the admin offer a value that the database will not take.",
            hint=f"Set editable=False on {resolved.field.name}.",
            obj=resolved.model,
            id="trigger_kit.W002",
        )
    for source in resolved.sources:
        hop = source.path[-1] if source.path else None
        if hop is None or hop.far_is_unique:
            continue
        fields: list[Any] = [
            field for field in source.model._meta.local_fields if field.column in {c.name for c in hop.far}
        ]
        if any(f.db_index or f.unique or f.name in _leading_fields(source.model) for f in fields):
            continue
        names = ", ".join(field.name for field in fields)
        yield checks.Warning(
            f"{resolved.uri}: {hop.table}.{hop.far[0].name} has no index, so that look-ups read the whole table.",
            hint=f"Set db_index=True on {source.model._meta.label}.{names}.",
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
