"""INSTALL: rules of a new app over tables of apps that wait for this one.

The admin's migrations wait for the first one of the app of a custom user model. If that one also had a rule over the
admin's table, each would wait for the other: the rules go into a second migration.
"""

from __future__ import annotations

from typing import Any

from django.db.migrations import Migration
from django.db.migrations.graph import MigrationGraph

from trigger_kit.migration.operations import BackfillRule, RuleOperation

__all__ = ["cut_cycles"]

Node = tuple[str, str]


def cut_cycles(migrations: dict[str, list[Migration]], graph: MigrationGraph | None) -> None:
    """Move the rules of a new app's first migration into a second one, where an app that it waits for waits for it."""
    for app_label, chain in migrations.items():
        if graph is None or graph.leaf_nodes(app_label):
            continue
        first = chain[0]
        closing = [node for node in first.dependencies if _waits_for(node, app_label, graph)]
        rules = [item for item in first.operations if isinstance(item, (RuleOperation, BackfillRule))]
        others = [item for item in first.operations if item not in rules]
        needed = {dependency.app_label for item in others for dependency in vars(item).get("_auto_deps", ())}
        if not closing or not rules or needed.intersection(label for label, _ in closing):
            continue
        second: Any = type("Migration", (Migration,), {"operations": rules, "dependencies": closing})
        first.operations = others  # type: ignore[misc]
        first.dependencies = [node for node in first.dependencies if node not in closing]  # type: ignore[misc]
        chain.insert(1, second(f"{first.name}_rules", app_label))


def _waits_for(node: Node, app_label: str, graph: MigrationGraph) -> bool:
    """Whether a migration that exists waits for an app that has none yet."""
    waiting, seen = [node], set()
    while waiting:
        found = _resolved(waiting.pop(), graph)
        if found is None or found in seen:
            continue
        seen.add(found)
        migration = graph.nodes[found]
        dependencies = migration.dependencies if migration else []
        if any(label == app_label for label, _ in dependencies):
            return True
        waiting += dependencies
    return False


def _resolved(node: Node, graph: MigrationGraph) -> Node | None:
    """Return the migration that a dependency means, or None where there is none."""
    label, name = node
    nodes = {"__first__": graph.root_nodes, "__latest__": graph.leaf_nodes}
    if name in nodes:
        return next(iter(nodes[name](label)), None)
    return node if graph.nodes.get(node) else None
