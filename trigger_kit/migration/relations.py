"""MIGRATE: generic relations, which have no column and so are in no migration but that of a rule which crosses them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps.registry import Apps
from django.db.models import Model
from django.db.models.sql import Query
from django.db.models.sql.datastructures import Join

from trigger_kit.exceptions import RuleError
from trigger_kit.resolve.rule import ResolvedRule, resolve
from trigger_kit.resolve.sources import nodes
from trigger_kit.rules import Denormalize

__all__ = ["CrossedRelation", "add_relations", "crossed_relations"]


@dataclass(frozen=True)
class CrossedRelation:
    """A GenericRelation of a model, as an operation of a rule writes it.

    ``model`` and ``to`` are labels; the other arguments are those of ``GenericRelation``.
    """

    model: str
    name: str
    to: str
    object_id_field: str = "object_id"
    content_type_field: str = "content_type"
    related_query_name: str | None = None
    for_concrete_model: bool = True

    @classmethod
    def of(cls, field: Any) -> CrossedRelation:
        """Return what an operation writes of a generic relation."""
        return cls(
            field.model._meta.label,
            field.name,
            field.remote_field.model._meta.label,
            field.object_id_field_name,
            field.content_type_field_name,
            field.remote_field.related_query_name,
            field.for_concrete_model,
        )

    @property
    def query_name(self) -> str:
        """The name by which paths go back from the rows that point."""
        return self.related_query_name or self.name

    def deconstruct(self) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        """Return what a migration writes."""
        defaults = CrossedRelation("", "", "")
        names = ("object_id_field", "content_type_field", "related_query_name", "for_concrete_model")
        kwargs = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(defaults, name)}
        return "trigger_kit.migration.operations.CrossedRelation", (self.model, self.name, self.to), kwargs


def crossed_relations(rule: Denormalize, model: type[Model]) -> tuple[CrossedRelation, ...]:
    """Return the generic relations that the paths of a rule cross; none where it cannot be resolved."""
    try:
        resolved = resolve(rule, model)
    except RuleError:
        return ()
    found = {CrossedRelation.of(field) for field in _generic_relations(resolved)}
    return tuple(sorted(found, key=lambda relation: (relation.model, relation.name)))


def _generic_relations(resolved: ResolvedRule) -> Iterator[Any]:
    queries = [resolved.query, *(node for node in nodes(resolved.expression) if isinstance(node, Query))]
    for query in queries:
        for join in query.alias_map.values():
            if isinstance(join, Join):
                field: Any = getattr(join.join_field, "field", join.join_field)
                if hasattr(field, "content_type_field_name"):
                    yield field


def add_relations(apps: Apps, relations: tuple[CrossedRelation, ...]) -> None:
    """Give the models of a state the generic relations that rules cross."""
    for relation in relations:
        model: Any = apps.get_model(relation.model)
        if relation.name not in {field.name for field in model._meta.private_fields}:
            _generic_relation(relation).contribute_to_class(model, relation.name)


def _generic_relation(relation: CrossedRelation) -> Any:
    # The app of content types need not be installed where nobody crosses a generic relation.
    from django.contrib.contenttypes.fields import GenericRelation

    return GenericRelation(
        relation.to,
        object_id_field=relation.object_id_field,
        content_type_field=relation.content_type_field,
        related_query_name=relation.related_query_name,
        for_concrete_model=relation.for_concrete_model,
    )
