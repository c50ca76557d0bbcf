"""MIGRATE: what a database wants for the rules of a state, compiled once for states that are alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from django.apps.registry import Apps
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db.migrations.state import ProjectState
from django.db.models import Model

from trigger_kit.database.changes import Change
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import RuleError
from trigger_kit.migration.batched import recomputing
from trigger_kit.migration.rendering import reading
from trigger_kit.migration.states import ModelKey, StateRule, all_rules
from trigger_kit.plan.plan import plan, plan_all
from trigger_kit.rules import Denormalize

__all__ = ["Compiled", "Contents", "changes_between", "compiled", "unresolved_and_gone"]

# States that follow each other in a migration, and the two that makemigrations compares.
KEPT = 8

_cache: OrderedDict[Hashable, Compiled] = OrderedDict()


@dataclass(frozen=True, eq=False)
class Contents:
    """What is wanted for the rules of a state, by model, in the order of their ranks.

    ``errors`` has the models whose rules cannot be resolved in this state; ``origins`` tells a target that has another
    name now; ``apps`` are the classes that they were compiled against.
    """

    targets: dict[ModelKey, Wanted] = field(default_factory=dict)
    errors: dict[ModelKey, RuleError] = field(default_factory=dict)
    origins: dict[ModelKey, str] = field(default_factory=dict)
    apps: Apps | None = None


class Compiled:
    """What is wanted for the rules of a state, compiled when it is asked for.

    Two states that are alike have the same one: most operations of migrations concern no rule, and compile nothing.
    """

    def __init__(self, make: Callable[[], Contents] = Contents) -> None:
        self._make = make

    @cached_property
    def contents(self) -> Contents:
        """All of it."""
        return self._make()

    @property
    def targets(self) -> dict[ModelKey, Wanted]:
        """What is wanted, by model, in the order of ranks."""
        return self.contents.targets

    @property
    def errors(self) -> dict[ModelKey, RuleError]:
        """Why the rules of some models cannot be resolved."""
        return self.contents.errors

    @property
    def origins(self) -> dict[ModelKey, str]:
        """The label of each model when its first rule came."""
        return self.contents.origins

    @property
    def apps(self) -> Apps | None:
        """The classes that the rules were compiled against."""
        return self.contents.apps


NOTHING = Compiled()
_UNRESOLVED = (FieldDoesNotExist, FieldError, RuleError)


def compiled(state: ProjectState) -> Compiled:
    """Return what a database wants for the rules of a state."""
    rules = all_rules(state)
    if not rules:
        return NOTHING
    read = reading(state, rules=rules)
    key = (tuple(sorted(rules.items(), key=lambda item: item[0])), read.fingerprint)
    if key not in _cache:
        copied = read.copied()
        _cache[key] = Compiled(lambda: _compile(copied.render(), rules))
        while len(_cache) > KEPT:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def _compile(apps: Apps, rules: dict[ModelKey, tuple[StateRule, ...]]) -> Contents:
    errors = {key: error for key, items in rules.items() if (error := _loss(apps, key, items))}
    found = {
        key: (apps.get_model(*key), [item.rule for item in rules[key]]) for key in sorted(rules) if key not in errors
    }
    try:
        plans = plan_all(found.values())
    except _UNRESOLVED:
        errors |= {key: error for key, declared in found.items() if (error := _error(*declared))}
        plans = plan_all(declared for key, declared in found.items() if key not in errors)
    targets = {}
    for item in plans:
        key = item.model._meta.app_label, str(item.model._meta.model_name)
        unfilled = frozenset(rule.name for rule in rules[key] if not rule.is_filled)
        # In the order of the state: a field that takes another name is known again by its position.
        names = tuple(rule.name for rule in rules[key])
        targets[key] = Wanted(recomputing(item, unfilled) if unfilled else item, unfilled, names)
    return Contents(targets, errors, {key: items[0].origin for key, items in rules.items()}, apps)


def _loss(apps: Apps, key: ModelKey, items: Sequence[StateRule]) -> RuleError | None:
    """Return the error of a rule of a model whose way is lost, if there is one."""
    label = apps.get_model(*key)._meta.label
    lost = next((item for item in items if item.is_lost), None)
    text = "two relations have had one name on its path."
    return RuleError("trigger_kit.E005", f"{label}:{lost.name}: {text}", "") if lost else None


def _error(model: type[Model], rules: Sequence[Denormalize]) -> RuleError | None:
    """Return why the rules of a model cannot be resolved, or None where they can."""
    try:
        plan(model, rules)
    except RuleError as error:
        return error
    except (FieldDoesNotExist, FieldError) as error:
        return RuleError("trigger_kit.E005", f"{model._meta.label}: {error}", "")
    return None


def changes_between(before: Compiled, after: Compiled) -> list[tuple[ModelKey, Change]]:
    """Return what becomes of each target that differs, by its key afterwards, in the order of ranks."""
    if before is after:
        return []
    old_keys = {origin: key for key, origin in before.origins.items()}
    pairs: dict[ModelKey, tuple[Wanted | None, Wanted | None]] = {}
    for key, wanted in before.targets.items():
        if key not in after.targets:
            pairs[key] = wanted, None
    for key, wanted in after.targets.items():
        old_key = key if key in before.origins else old_keys.get(after.origins[key], key)
        pairs.pop(old_key, None)
        pairs[key] = before.targets.get(old_key), wanted
    return [
        (key, Change(old, new))
        for key, (old, new) in pairs.items()
        if (old.is_like if old else None) != (new.is_like if new else None)
    ]


def unresolved_and_gone(before: Compiled, after: Compiled) -> list[tuple[ModelKey, str]]:
    """Return the targets, and their tables, whose rules cannot be resolved before and do not stand afterwards.

    What they have in the database is known to the catalog only.
    """
    if before is after:
        return []
    staying = set(after.origins.values())
    gone = [key for key in before.errors if before.origins[key] not in staying]
    return [(key, str(before.apps.get_model(*key)._meta.db_table)) for key in gone if before.apps]


def with_values_kept(change: Change) -> Change:
    """Return a change that leaves the values as they are, where there were any before."""
    return replace(change, keeps_values=True) if change.before and change.after else change
