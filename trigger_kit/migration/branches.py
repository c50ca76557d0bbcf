"""INSTALL: branches of migrations that were merged.

Each branch holds the text of a target's triggers without the rules of the other one. The branch that is applied last
has its text in the database, so that the rules of the other one are not kept from then on. makemigrations sees that
the text is another one, and writes an AlterRule; the fields are also to be filled again. That is all of them: which
branch comes last is not the same in every database.
"""

from __future__ import annotations

import re

from django.apps.registry import Apps
from django.db.migrations.state import ModelState

from trigger_kit.migration.operations import rules_in, triggers_in
from trigger_kit.migration.reduction import columns_of

__all__ = ["fields_of_branches"]


def fields_of_branches(model_state: ModelState | None, apps: Apps) -> set[str]:
    """Return the fields of a model's rules, if the frozen triggers do not keep all of them."""
    guards = [trigger for trigger in triggers_in(model_state) if re.match(r"~tk_.*_guard_", str(trigger.name))]
    if model_state is None or not guards:
        return set()
    kept = columns_of(guards[0])
    model = apps.get_model(model_state.app_label, model_state.name)
    columns = {rule.field: getattr(model._meta.get_field(rule.field), "column", "") for rule in rules_in(model_state)}
    return set() if kept.issuperset(columns.values()) else set(columns)
