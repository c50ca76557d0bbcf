"""The rules that models declare: which models, which rules, by which names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from django.apps import apps as live_apps
from django.apps.registry import Apps
from django.db.models import Model

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.rules import Denormalize

__all__ = ["complete", "declared", "rules_of", "select"]


def rules_of(model: type[Model]) -> list[Denormalize]:
    """Return the rules that a model declares itself or inherits from an abstract model.

    What is not a rule is left out: a system check reports it. So is what a parent with a table of its own declares too,
    for a column in that table: a model without a Meta finds that of its abstract ancestors, past its parent.
    """
    value: Any = getattr(model._meta, "denormalizations", ())
    rules = [rule for rule in value if isinstance(rule, Denormalize)] if isinstance(value, (list, tuple)) else []
    local = {field.name for field in model._meta.local_fields}
    kept = [rule for parent in model._meta.parents for rule in rules_of(parent)]
    return [rule for rule in rules if rule.field in local or rule not in kept]


def declared(apps: Apps) -> list[tuple[type[Model], list[Denormalize]]]:
    """Return every model that declares rules, with its rules, in order of its label."""
    models = sorted(apps.get_models(), key=lambda model: model._meta.label)
    return [(model, rules) for model in models if (rules := rules_of(model))]


def complete(apps: Any) -> Any:
    """Give historical models the generic relations of the live ones, which migrations do not hold; return the apps.

    A generic relation has no column, so that it may change without a migration: today's is the only one there is.
    """
    for live in live_apps.get_models():
        for field in live._meta.private_fields:
            label = live._meta.label_lower
            if not hasattr(field, "content_type_field_name") or label not in _labels(apps):
                continue
            model = apps.get_model(label)
            remote = field.remote_field.model._meta.label
            known = {item.name for item in model._meta.private_fields}
            if field.name not in known and remote.lower() in _labels(apps):
                _copy_relation(field, remote).contribute_to_class(model, field.name)
    return apps


def _labels(apps: Any) -> set[str]:
    return {model._meta.label_lower for model in apps.get_models(include_auto_created=True)}


def _copy_relation(field: Any, remote: str) -> Any:
    """Return a new generic relation like another one, to a model named by its label."""
    return type(field)(
        remote,
        object_id_field=field.object_id_field_name,
        content_type_field=field.content_type_field_name,
        for_concrete_model=field.for_concrete_model,
        related_query_name=field.remote_field.related_query_name,
    )


def select(uris: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the known rule URIs that are meant: all where none is given; an app or a model stands for its rules.

    Raises TriggerKitError for a name that means no rule.
    """
    if not uris:
        return list(known)
    chosen: list[str] = []
    for uri in uris:
        matching = [name for name in known if name == uri or name.startswith((f"{uri}:", f"{uri}."))]
        if not matching:
            similar = difflib.get_close_matches(uri, known, n=1)
            hint = f"Did you mean {similar[0]}?" if similar else f"Known rules: {', '.join(known) or 'none'}."
            raise TriggerKitError(f"There is no rule {uri}. {hint}")
        chosen += [name for name in matching if name not in chosen]
    return chosen
