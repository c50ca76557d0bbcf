"""MIGRATE: how migrations write Rows and the subqueries over them, and that batched fills are no transaction.

Django cannot write a subquery, because its constructor takes a queryset. The text is what the author wrote, with the
names that migrations import, and reads back as an equal rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.db.migrations.serializer import BaseSerializer, serializer_factory
from django.db.migrations.writer import MigrationWriter
from django.db.models import FilteredRelation, OuterRef, Subquery

from trigger_kit.notation import arguments, describe
from trigger_kit.rows import Rows

__all__ = ["RuleMigrationWriter", "is_batched", "register"]

# The text, and the imports that it needs.
Written = tuple[str, set[str]]

_HELD = {"output_field", "template"}


def register() -> None:
    """Let migrations hold Rows."""
    MigrationWriter.register_serializer(Rows, RowsSerializer)
    MigrationWriter.register_serializer(Subquery, SubquerySerializer)
    MigrationWriter.register_serializer(FilteredRelation, RelationSerializer)


def is_batched(operation: Any) -> bool:
    """Whether an operation fills rows in batches."""
    return bool(getattr(operation, "batched", False))


class RuleMigrationWriter(MigrationWriter):
    """Django's writer, which also writes that a migration of batched fills is no transaction."""

    def as_string(self) -> str:
        """Return the text of the migration's file."""
        text: str = super().as_string()
        operations = self.migration.operations
        if not operations or not all(map(is_batched, operations)):
            return text
        head = "class Migration(migrations.Migration):\n"
        return text.replace(head, f"{head}    atomic = False\n", 1)


class RowsSerializer(BaseSerializer):
    """``trigger_kit.Rows('library.Review').filter(…)[:1]``."""

    value: Rows

    def serialize(self) -> Written:
        """Return the label and the calls; the label of a model that may be swapped is the setting that names it."""
        setting = apps.get_swappable_settings_name(self.value.label)
        label = f"settings.{setting}" if setting else repr(self.value.model_label)
        text, imports = f"trigger_kit.Rows({label})", {"import trigger_kit"}
        if setting:
            imports.add("from django.conf import settings")
        for call in self.value.calls:
            more, needed = _arguments(call.args, call.kwargs)
            text, imports = text + call.written(more), imports | needed
        return text, imports


class SubquerySerializer(BaseSerializer):
    """``models.Subquery(trigger_kit.Rows(…), output_field=…)``, and likewise for its subclasses."""

    value: Subquery

    def serialize(self) -> Written:
        """Return the call of the class; refuse what is not known to read back as it was."""
        found = arguments(self.value)
        if found is None:
            raise ValueError("A migration cannot hold a subquery over a queryset: write the queryset with Rows.")
        lost = sorted(found[1].keys() - _HELD)
        if lost:
            raise ValueError(
                f"A migration cannot hold {', '.join(lost)} of {describe(self.value)}: a subquery over Rows takes "
                "output_field and template."
            )
        return _construct(type(self.value), *found)


class RelationSerializer(BaseSerializer):
    """``models.FilteredRelation('reviews', condition=…)``."""

    value: FilteredRelation

    def serialize(self) -> Written:
        """Return the call of the class."""
        args, kwargs = arguments(self.value) or ((), {})
        return _construct(FilteredRelation, args, kwargs)


def _construct(kind: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Written:
    """Return the call of a class by the name that migrations know it by."""
    text, imports = _arguments(args, kwargs)
    if kind.__module__.startswith("django.db.models."):
        return f"models.{kind.__name__}({text})", imports | {"from django.db import models"}
    return f"{kind.__module__}.{kind.__qualname__}({text})", imports | {f"import {kind.__module__}"}


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Written:
    """Return arguments in the order in which they were given, which annotate() minds."""
    written = [("", _value(value)) for value in args]
    written += [(f"{name}=", _value(value)) for name, value in kwargs.items()]
    return ", ".join(name + text for name, (text, _) in written), {item for _, (_, more) in written for item in more}


def _value(value: Any) -> Written:
    """Return a value as Django writes it, and an outer reference by its short name: nearly all Rows have one."""
    if type(value) is OuterRef:
        return _construct(OuterRef, *(arguments(value) or ((), {})))
    text, imports = serializer_factory(value).serialize()
    return text, set(imports)
