"""MIGRATE: what an operation of a rule has to wait for, and what has to wait for it."""

from __future__ import annotations

from typing import Any

from django.apps import apps as live_apps
from django.db.migrations.autodetector import OperationDependency
from django.db.migrations.operations import (
    AlterField,
    AlterModelOptions,
    AlterModelTable,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation
from django.db.models import Model

from trigger_kit.plan.plan import Plan

__all__ = ["CREATE", "RuleDependency", "ShapeDependency", "creates", "dependencies_of", "gives_shape", "removed_by"]

CREATE = OperationDependency.Type.CREATE


class RuleDependency(OperationDependency):
    """A dependency on the operations of a model's rules."""


class ShapeDependency(OperationDependency):
    """A dependency on what gives a model, its table, or one of its columns the shape that it has now."""


def gives_shape(operation: Operation, dependency: OperationDependency) -> bool:
    """Whether an operation gives a model, its table, or a column the name or the type that it has now."""
    if isinstance(operation, RenameModel):
        return operation.new_name_lower == dependency.model_name
    if isinstance(operation, (AlterModelTable, AlterModelOptions)):
        return operation.name_lower == dependency.model_name
    if isinstance(operation, RenameField):
        return (operation.model_name_lower, operation.new_name) == (dependency.model_name, dependency.field_name)
    return isinstance(operation, AlterField) and (operation.model_name_lower, operation.name) == (
        dependency.model_name,
        dependency.field_name,
    )


def removed_by(app_label: str, operation: Operation) -> tuple[str, str, str | None] | None:
    """Return app, model and field of what an operation removes."""
    if isinstance(operation, RemoveField):
        return app_label, operation.model_name_lower, operation.name
    if isinstance(operation, DeleteModel):
        return app_label, operation.name_lower, None
    return None


def dependencies_of(plan: Plan) -> list[OperationDependency]:
    """Return what must exist before a plan's SQL runs: models, and every column that it mentions."""
    found = {creates(plan.model, kept.resolved.column.name) for kept in plan.kept_columns}
    for source in plan.sources:
        found |= {creates(source.model, column) for column in (*source.columns, None)}
        kinds = [hop.content_type for hop in source.path if hop.content_type is not None]
        found |= {OperationDependency("contenttypes", "contenttype", None, CREATE) for _ in kinds}
    return sorted(found | {creates(plan.model, None)}, key=str)


def creates(model: type[Model], column: str | None) -> OperationDependency:
    """Return the dependency on the creation of a model or one of its columns."""
    meta = model._meta
    if meta.auto_created:
        # Django makes the table of a many-to-many field with the field.
        owner: Any = meta.auto_created
        (name,) = (f.name for f in owner._meta.local_many_to_many if f.remote_field.through is model)
        return OperationDependency(owner._meta.app_label, owner._meta.model_name, name, CREATE)
    field = next((field.name for field in meta.local_fields if field.column == column), None)
    # Another project may have another model there, in another app.
    setting = live_apps.get_swappable_settings_name(meta.label)
    if setting is not None:
        return OperationDependency("__setting__", setting, field, CREATE)
    return OperationDependency(meta.app_label, str(meta.model_name), field, CREATE)
