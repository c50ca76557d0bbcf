"""OPERATE: a listing of drifted rows, as ``verify --json`` prints it, read and checked before anything is changed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from django.core.exceptions import ValidationError
from django.db.models import BooleanField, IntegerField, Model

from trigger_kit.exceptions import TriggerKitError
from trigger_kit.maintenance.comparison import Drift, Key

__all__ = ["listed_keys", "read_listing"]

# What no listing has for a key; an array of JSON stands for the columns of a composite one.
NO_KEYS = (type(None), list, tuple, dict)


def read_listing(file: TextIO) -> list[Drift]:
    """Return the drifts of a document that ``verify --json`` has printed; their values are left out.

    Raises TriggerKitError where it is something else, or not whole.
    """
    try:
        document = json.load(file)
    except ValueError as error:
        raise TriggerKitError(f"The listing is not a JSON document, or not a whole one: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("drifts"), list):
        raise TriggerKitError('The listing is not one of verify --json: it has no list "drifts".')
    return [_listed_drift(number, item) for number, item in enumerate(document["drifts"], 1)]


def listed_keys(drifts: Iterable[Drift], models: Mapping[str, type[Model]]) -> dict[str, list[Key]]:
    """Return the keys of drifts by rule, each once, as values of the key's columns; ``models`` has those of the rules.

    Raises TriggerKitError for an unknown rule, and for what is no key of its model.
    """
    found: dict[str, dict[Key, None]] = {}
    for drift in drifts:
        if drift.uri not in models:
            similar = difflib.get_close_matches(drift.uri, models, n=1)
            hint = f" Did you mean {similar[0]}?" if similar else ""
            raise TriggerKitError(f"The listing names {drift.uri}, and there is no such rule.{hint}")
        found.setdefault(drift.uri, {})[_key(drift, models[drift.uri])] = None
    return {uri: list(keys) for uri, keys in found.items()}


def _listed_drift(number: int, item: Any) -> Drift:
    if not isinstance(item, dict) or not isinstance(item.get("rule"), str) or "key" not in item:
        raise TriggerKitError(f'Drift {number} of the listing has no "rule" and "key": {json.dumps(item)[:100]}')
    return Drift(item["rule"], item["key"], None, None)


def _key(drift: Drift, model: type[Model]) -> Key:
    """Return a key as values of the columns of a model's primary key."""
    fields = model._meta.pk_fields
    values = drift.key if isinstance(drift.key, (list, tuple)) and len(fields) > 1 else [drift.key]
    try:
        return tuple(_value(value, field) for value, field in zip(values, fields, strict=True))
    except (ValidationError, ValueError, TypeError, OverflowError) as error:
        raise TriggerKitError(
            f"The listing has {drift.key!r} for a key of {model._meta.label}, which it is not."
        ) from error


def _value(value: Any, field: Any) -> Any:
    """Return a value as the type of a field.

    Raises ValueError, or what the field raises, where it is none.
    """
    while field.is_relation:
        field = field.target_field
    if isinstance(value, NO_KEYS) or (isinstance(value, bool) and not isinstance(field, BooleanField)):
        raise ValueError(value)
    parsed = field.to_python(value)
    is_integer = isinstance(field, IntegerField)
    if is_integer and (parsed.bit_length() > 63 or (isinstance(value, float) and parsed != value)):
        raise ValueError(value)
    if isinstance(parsed, str) and "\x00" in parsed:
        raise ValueError(value)
    return parsed
