"""MIGRATE: whether migrations of other apps come in one order with those that hold rules, in every database.

What renames, removes or retypes something that a rule of another app reads must come before the rule or after it.
Where the graph does not say which, a fresh database may take the other way than the one that has grown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps as live_apps
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import (
    AlterField,
    AlterModelOptions,
    AlterModelTable,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.state import ProjectState

from trigger_kit.migration.operations import RuleOperation, flat
from trigger_kit.migration.states import ModelKey, StateRule, all_rules, names_of, rules_in
from trigger_kit.plan.plan import Plan

if TYPE_CHECKING:
    from trigger_kit.migration.compiled import Compiled

__all__ = ["CHANGING", "Disorder", "disorders", "named_after", "named_before", "names_read"]

Node = tuple[str, str]
# App, model and field; no field where it is about the model.
Name = tuple[str, str, str | None]

# Operations that take a name away, or change what is read.
CHANGING = (AlterField, AlterModelOptions, AlterModelTable, DeleteModel, RemoveField, RenameField, RenameModel)


@dataclass(frozen=True)
class Disorder:
    """A migration that changes something under a rule of another app, and no order between the two.

    ``rule`` is the migration that holds rules of the model ``label``, ``change`` the other one; ``what`` says what that
    does, ``is_first`` that the rule must come first.
    """

    label: str
    rule: Node
    change: Node
    what: str
    is_first: bool

    @property
    def way_out(self) -> str:
        """What gives the two an order: a line for the migration that holds the rule, or for the other one."""
        first, second = (self.rule, self.change) if self.is_first else (self.change, self.rule)
        return (
            f"Add to the migration {'.'.join(first)}: run_before = [{second!r}], or to {'.'.join(second)}: "
            f"dependencies = [..., {first!r}]."
        ).replace("'", '"')


def disorders(loader: MigrationLoader) -> list[Disorder]:
    """Return every pair of migrations that need an order and have none."""
    walk = _Walk(loader)
    for node in _full_plan(loader):
        walk.step(node, loader.graph.nodes[node])
    return list(dict.fromkeys(walk.found))


def _full_plan(loader: MigrationLoader) -> list[Node]:
    """Return all migrations in the order in which a fresh database gets them."""
    nodes: dict[Node, None] = {}
    for leaf in loader.graph.leaf_nodes():
        nodes |= dict.fromkeys(loader.graph.forwards_plan(leaf))
    return list(nodes)


@dataclass(frozen=True)
class _Changed:
    node: Node
    before: Name
    after: Name
    what: str

    @property
    def is_swappable(self) -> bool:
        """Whether the model stands in place of a swappable one."""
        return live_apps.get_swappable_settings_name(f"{self.before[0]}.{self.before[1]}") is not None

    @property
    def is_rename(self) -> bool:
        """Whether it has given a name that was not there before."""
        return self.before != self.after


class _Walk:
    """Goes through the history of a fresh database, and looks at each change and each rule."""

    def __init__(self, loader: MigrationLoader) -> None:
        self.graph: Any = loader.graph
        self.state = ProjectState(real_apps=set(loader.unmigrated_apps))
        self.holders: dict[str, Node] = {}
        self.changes: list[_Changed] = []
        self.found: list[Disorder] = []

    def step(self, node: Node, migration: Migration) -> None:
        """Look at one migration."""
        touched: set[str] = set()
        for operation in migration.operations:
            inner = list(flat([operation]))
            for item in inner:
                if isinstance(item, CHANGING) and _matters(item, node[0], self.state):
                    self._look_at_change(node, item)
            operation.state_forwards(node[0], self.state)
            touched |= {item.model_name.lower() for item in inner if isinstance(item, RuleOperation)}
        for model_name in sorted(touched):
            self._look_at_rules(node, model_name)

    def _look_at_change(self, node: Node, operation: Any) -> None:
        """Look for rules of other apps that a change concerns, and that have no order against it."""
        names = named_before(node[0], operation), named_after(node[0], operation)
        change = _Changed(node, *names, operation.describe())
        self.changes.append(change)
        rules = {key: items for key, items in all_rules(self.state).items() if key[0] != node[0]}
        if not _mentions(rules, change.before):
            return
        before = _compiled(self.state)
        for key, wanted in before.targets.items():
            holder = self.holders.get(before.origins[key])
            is_read = key in rules and change.before in names_read(wanted.plan)
            if is_read and holder and not self._comes_before(holder, node):
                self._report(wanted.label, holder, change, is_first=True)

    def _look_at_rules(self, node: Node, model_name: str) -> None:
        """Look for changes of other apps that rules of a model need, and that have no order against them."""
        key = node[0], model_name
        items = rules_in(self.state.models.get(key))
        if not items:
            return
        self.holders[items[0].origin] = node
        others = [item for item in self.changes if item.node[0] != node[0] and not self._comes_before(item.node, node)]
        others = [
            item for item in others if _mentions({key: items}, item.before) or _mentions({key: items}, item.after)
        ]
        if not others:
            return
        now, label = _compiled(self.state), ".".join(key)
        for change in others:
            if key in now.errors:
                self._report(label, node, change, is_first=True)
            elif change.after in names_read(now.targets[key].plan) and (change.is_rename or not change.is_swappable):
                # The rule was written for what was there then: only what has come since has no order against it. The
                # model in place of a swappable one is another in each project; a rule takes it as it is.
                self._report(label, node, change, is_first=not change.is_rename)

    def _comes_before(self, first: Node, second: Node) -> bool:
        return first in self.graph.forwards_plan(second)

    def _report(self, label: str, rule: Node, change: _Changed, *, is_first: bool) -> None:
        self.found.append(Disorder(label, rule, change.node, change.what, is_first))


def _compiled(state: ProjectState) -> Compiled:
    """Return what a state wants; most histories have nothing that must be compiled to see an order."""
    from trigger_kit.migration.compiled import compiled

    return compiled(state)


def _mentions(rules: dict[ModelKey, tuple[StateRule, ...]], name: Name) -> bool:
    """Whether rules may read something, by its name alone: a model without its label is the way back to it."""
    mentioned = {text.lower() for text in names_of(rules)}
    field = name[2] or name[1]
    return bool({field, f"{field}_id", f"{name[0]}.{name[1]}"} & mentioned)


def _matters(operation: Any, app_label: str, state: ProjectState) -> bool:
    """Whether an operation takes a name of a path away, or makes a column something else.

    Tables and columns may be called as they like: rules name models and fields.
    """
    if isinstance(operation, AlterModelTable):
        return False
    if isinstance(operation, AlterModelOptions):
        before = state.models[app_label, operation.name_lower].options.get("default_related_name")
        return bool(before != operation.options.get("default_related_name"))
    if not isinstance(operation, AlterField):
        return True
    model_state = state.models.get((app_label, operation.model_name_lower))
    before = model_state.fields.get(operation.name) if model_state else None
    return before is None or _kind(before) != _kind(operation.field)


def _kind(field: Any) -> tuple[Any, ...]:
    """Return what a column is, and what the relation over it is called; how long a text may be does not matter."""
    remote = field.remote_field
    names = (str(remote.model).lower(), remote.related_name, remote.related_query_name) if remote else ()
    return (
        field.get_internal_type(),
        getattr(field, "decimal_places", None),
        getattr(field, "db_collation", None),
        names,
    )


def names_read(plan: Plan) -> set[Name]:
    """Return app, model and field of what a plan reads, and of its own model."""
    found: set[Name] = set()
    for model, columns in [(plan.model, plan.key_columns), *((s.model, s.columns) for s in plan.sources)]:
        meta = model._meta
        owner: Any = meta.auto_created or model
        label, name = owner._meta.app_label, str(owner._meta.model_name)
        found.add((label, name, None))
        if meta.auto_created:
            found |= {(label, name, f.name) for f in owner._meta.local_many_to_many if f.remote_field.through is model}
        else:
            found |= {(label, name, field.name) for field in meta.local_fields if field.column in columns}
    return found


def named_before(app_label: str, operation: Any) -> Name:
    """Return what an operation changes, by the names before it."""
    if isinstance(operation, RenameModel):
        return app_label, operation.old_name_lower, None
    if isinstance(operation, RenameField):
        return app_label, operation.model_name_lower, operation.old_name
    if isinstance(operation, (AlterField, RemoveField)):
        return app_label, operation.model_name_lower, operation.name
    return app_label, operation.name_lower, None


def named_after(app_label: str, operation: Any) -> Name:
    """Return what an operation has changed, by the names after it."""
    if isinstance(operation, RenameModel):
        return app_label, operation.new_name_lower, None
    if isinstance(operation, RenameField):
        return app_label, operation.model_name_lower, operation.new_name
    return named_before(app_label, operation)
