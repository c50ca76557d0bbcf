"""RESOLVE: what the value of a rule means, whatever its column, its tables and the triggers are called.

Two rules of one meaning give every row the same value. The digest of the meaning stands in the database beside the
triggers: where it is another one, rows are filled again. So it must not depend on the version of Django, nor on how
the SQL is written, nor on ``db_table`` and ``db_column``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from trigger_kit.resolve.columns import Column, Hop, full_type
from trigger_kit.resolve.rule import ResolvedRule

__all__ = ["FieldName", "meaning"]

# A field by the label of its model and its name, both in lower case but the name.
FieldName = tuple[str, str]


def meaning(resolved: ResolvedRule, written: str, now: Callable[[FieldName], FieldName] = lambda name: name) -> str:
    """Return the digest of what a rule's value means.

    ``written`` is the canonical text of the expression; ``now`` gives fields the names that they have by now, where
    the rule is that of an older state.
    """
    parts = [written, *sorted(set(_reads(resolved, now)))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _reads(resolved: ResolvedRule, now: Callable[[FieldName], FieldName]) -> Iterator[str]:
    """Yield the kept field and all that are read, each with its type, and the paths that lead to them."""
    fields = _fields(resolved)

    def name(column: Column) -> str:
        field = fields.get((column.table, column.name))
        return _name(field, now) if field is not None else f"{column.table}.{column.name}"

    yield f"keeps {_name(resolved.field, now)} {full_type(resolved.field)}"
    for source in resolved.sources:
        path = " ".join(_hop(hop, name, now) for hop in source.path)
        for column in source.columns:
            field = fields.get((source.table, column))
            if field is not None:
                yield f"reads [{path}] {_name(field, now)} {full_type(field)}"
        yield f"along [{path}]"


def _fields(resolved: ResolvedRule) -> dict[tuple[str, str], Any]:
    """Return the fields of every table that is read, by table and column."""
    models = [resolved.model, *(source.model for source in resolved.sources)]
    return {
        (field.model._meta.db_table, str(field.column)): field
        for model in models
        for field in model._meta.concrete_fields
    }


def _name(field: Any, now: Callable[[FieldName], FieldName]) -> str:
    """Return the name of a field; one between two many-to-many ends is named by the field that made its table."""
    meta = field.model._meta
    if not meta.auto_created:
        return ".".join(now((meta.label_lower, field.name)))
    owner = meta.auto_created
    (made,) = (f for f in owner._meta.local_many_to_many if f.remote_field.through is field.model)
    position = [other.name for other in meta.local_fields].index(field.name)
    return ".".join([*now((owner._meta.label_lower, made.name)), str(position)])


def _hop(hop: Hop, name: Callable[[Column], str], now: Callable[[FieldName], FieldName]) -> str:
    ends = ", ".join(f"{name(far)} = {name(near)}" for near, far in zip(hop.near, hop.far, strict=True))
    kind = hop.content_type
    return f"{ends} of {now((f'{kind.app_label}.{kind.model}', ''))[0]}" if kind else ends
