"""For test suites: assert that every stored value equals its expression."""

from __future__ import annotations

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from trigger_kit.exceptions import DriftError
from trigger_kit.maintenance.verify import as_committed, find_drift
from trigger_kit.resolve.declared import declared
from trigger_kit.resolve.rule import rule_uri

__all__ = ["assert_in_sync"]


def assert_in_sync(*models: type[Model], using: str = DEFAULT_DB_ALIAS) -> None:
    """Raise DriftError, an AssertionError, where a rule of these models (or of any) does not hold.

    Works inside a test's transaction: it reads what the test has written, DEFERRED values as if it committed now, and
    QUEUED ones with what is pending.
    """
    connection = connections[using]
    found = [(model, rule) for model, rules in declared(apps) if not models or model in models for rule in rules]
    with as_committed(connection, found):
        drifts = [
            drift for model, rule in found for drift in find_drift(connection, rule_uri(model, rule.field), model, rule)
        ]
    if not drifts:
        return
    lines = [f"{drift.uri} of {drift.key!r}: stored {drift.stored!r}, true {drift.true!r}" for drift in drifts]
    shown = lines[:20] + ([f"… and {len(lines) - 20} more"] if len(lines) > 20 else [])
    raise DriftError("Stored values differ from their expressions:\n  " + "\n  ".join(shown))
