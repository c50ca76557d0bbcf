"""INSTALL: what becomes of the operations of rules where migrations are squashed or optimized.

The first operation of a group carries the text of all, so what counts is where a text goes when two operations become
one. None of ours lets another pass that may name what a text names: only operations that add something do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy
from typing import Any

from django.db.migrations.operations import (
    AddField,
    AddIndex,
    AlterModelManagers,
    AlterModelOptions,
    CreateModel,
)
from django.db.migrations.operations.base import Operation, OperationCategory

from trigger_kit.sql import CompiledTrigger

__all__ = ["ADDITIONS", "TextOperation", "columns_of"]

# Operations that may run earlier than those of rules: a text names nothing that they take away or change.
ADDITIONS = (AddField, AddIndex, AlterModelManagers, AlterModelOptions, CreateModel)

_COLUMN = re.compile(r"^--   (\w+) = ", re.MULTILINE)


class TextOperation(Operation):
    """An operation on a rule that carries the text of triggers, for itself and for others of its group.

    ``came`` are the fields whose rules are known to come with the operations that have become this one; ``first`` has
    the columns that a trigger kept when it was first named by one of them, or None where it was only dropped.
    """

    model_name: str
    triggers: list[CompiledTrigger]
    removed: list[str]
    came: frozenset[str] = frozenset()
    first: dict[str, frozenset[str] | None] | None = None
    # The rule came and went: what is left of it is the text that it carries.
    is_rest = False

    @property
    def field_name(self) -> str:
        """The field whose rule this is about."""
        raise NotImplementedError

    @property
    def has_text(self) -> bool:
        """Whether this operation changes triggers."""
        return bool(self.triggers or self.removed)

    def reduce(self, operation: Operation, app_label: str) -> bool | list[Operation]:
        """Become one with a later operation on the same rule, or carry the text of a later one on the same model.

        References are never denied: the text names tables and columns, whose models and fields it does not know.
        """
        reduced: bool | list[Operation] = super().reduce(operation, app_label)
        if reduced or not isinstance(operation, TextOperation):
            return reduced or isinstance(operation, ADDITIONS)
        if operation.model_name.lower() != self.model_name.lower():
            return True
        if self.is_rest:
            return [operation.after(self)]
        if operation.is_rest:
            return [self.before(operation)]
        is_same = operation.field_name == self.field_name
        if is_same and (self.has_text or not operation.has_text):
            joined = self.joined_with(operation)
            if joined is not None:
                return joined
        if self.category is OperationCategory.REMOVAL and operation.category is not OperationCategory.REMOVAL:
            # The text of a rule that comes is to be read beside that rule.
            return not is_same and not self.has_text
        if operation.has_text or (self.came and not operation.came <= self.came):
            return [self.before(operation), operation.with_text([], [])]
        return not is_same and not self.has_text

    def joined_with(self, operation: TextOperation) -> list[Operation] | None:
        """Return what has the same effect as this operation and a later one on the same rule, or None."""
        raise NotImplementedError

    def with_text(self, triggers: Sequence[CompiledTrigger], removed: Sequence[str]) -> Any:
        """Return this operation with another text."""
        other = copy(self)
        other.triggers, other.removed, other.first = list(triggers), list(removed), None
        return other

    def before(self, operation: TextOperation) -> Any:
        """Return this operation with the text of a later one after its own."""
        other = self.with_text(*_merged(self, operation))
        other.first = {**operation.columns_first, **self.columns_first}
        other.came = self.came | operation.came if self.came or operation.is_rest else self.came
        return other

    def after(self, operation: TextOperation) -> Any:
        """Return this operation with the text of an earlier one before its own."""
        other = self.with_text(*_merged(operation, self))
        other.first = {**self.columns_first, **operation.columns_first}
        other.came = self.came | operation.came
        return other

    @property
    def columns_first(self) -> dict[str, frozenset[str] | None]:
        """The columns that each trigger kept when it was first named."""
        if self.first is not None:
            return self.first
        named = {str(trigger.name): columns_of(trigger) for trigger in self.triggers}
        return {**dict.fromkeys(self.removed), **named}

    @property
    def leaves_nothing(self) -> bool:
        """Whether the text only drops triggers that came with the rules of these operations."""
        known = self.came | {f"{field}_id" for field in self.came}
        first = [self.columns_first[name] for name in self.removed]
        return not self.triggers and all(columns and columns <= known for columns in first)


def columns_of(trigger: CompiledTrigger) -> frozenset[str]:
    """Return the columns that a trigger keeps, as its text says for those who read it."""
    return frozenset(_COLUMN.findall(trigger.text))


def _merged(earlier: TextOperation, later: TextOperation) -> tuple[list[CompiledTrigger], list[str]]:
    """Return the triggers and the names of those that go, of two changes in a row."""
    changed = {str(trigger.name) for trigger in later.triggers}
    kept = [trigger for trigger in earlier.triggers if trigger.name not in changed.union(later.removed)]
    gone = dict.fromkeys(name for name in (*earlier.removed, *later.removed) if name not in changed)
    return [*kept, *later.triggers], list(gone)
