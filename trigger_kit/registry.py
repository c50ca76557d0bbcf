"""The rules that models declare: which models, which rules, by which names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from django.apps.registry import Apps
from django.db.models import Model

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.rules import Denormalize

__all__ = ["declared", "rules_of", "select"]


def rules_of(model: type[Model]) -> list[Denormalize]:
    """Return the rules that a model declares itself or inherits from an abstract model.

    What is not a rule is left out: a system check reports it.
    """
    value: Any = getattr(model._meta, "denormalizations", ())
    return [rule for rule in value if isinstance(rule, Denormalize)] if isinstance(value, (list, tuple)) else []


def declared(apps: Apps) -> list[tuple[type[Model], list[Denormalize]]]:
    """Return every model that declares rules, with its rules, in order of its label."""
    models = sorted(apps.get_models(), key=lambda model: model._meta.label)
    return [(model, rules) for model in models if (rules := rules_of(model))]


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
