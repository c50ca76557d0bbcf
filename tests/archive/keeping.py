"""Install made-up rules inside a test's transaction, and check the contract for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from django.db import connection, transaction
from django.db.models import Model

from trigger_kit import Denormalize
from trigger_kit.database.changes import Change, owned_by
from trigger_kit.database.converge import converge
from trigger_kit.database.installation import backfill
from trigger_kit.database.wanted import Wanted
from trigger_kit.exceptions import RuleError
from trigger_kit.maintenance.verify import as_committed, find_drift
from trigger_kit.plan.plan import Plan, plan_all
from trigger_kit.resolve.rule import rule_uri

Rules = list[tuple[type[Model], list[Denormalize]]]

# The checks that refuse a timing.
CANNOT_WAIT = {f"trigger_kit.E03{number}" for number in range(4)}


def keep(rules: Rules) -> list[Plan]:
    """Install the triggers of rules and fill their columns; a test's rollback takes all of it away."""
    plans = plan_all(rules)
    install(plans)
    return plans


def make_tables(*made: type[Model]) -> None:
    """Create the tables of models that a test declares."""
    with connection.schema_editor() as editor:
        for model in made:
            editor.create_model(model)


def install(plans: Iterable[Plan]) -> None:
    """Install the triggers of plans and fill their columns, dependents first."""
    ordered = list(plans)
    for plan in ordered:
        converge(connection, [Change(after=Wanted(plan))])
    for plan in reversed(ordered):
        backfill(plan, connection)


def install_anew(plans: Iterable[Plan]) -> None:
    """Install over what another version has installed: everything is replaced where it stands."""
    ordered = list(plans)
    for item in [item for plan in ordered for item in owned_by(connection, plan.target)]:
        comment = replace(item.comment, text="0" * 40).write()
        with connection.cursor() as cursor:
            cursor.execute(f"COMMENT ON TRIGGER \"{item.trigger}\" ON {item.sql_table} IS '{comment}'")
    install(ordered)


def assert_rules_hold(rules: Rules) -> None:
    """Compare every stored value with Django's own annotate()."""
    pairs = [(model, rule) for model, declared in rules for rule in declared]
    with as_committed(connection, pairs):
        drifts = [
            f"{drift.uri} of {drift.key!r}: stored {drift.stored!r}, true {drift.true!r}   {rule!r}"
            for model, rule in pairs
            for drift in find_drift(connection, rule_uri(model, rule.field), model, rule)
        ]
    assert not drifts, "\n".join(drifts)


def open_savepoint() -> str:
    """Open a savepoint, by the name that this version of Django has for it."""
    opened: str = getattr(transaction, "savepoint_create", transaction.savepoint)()
    return opened


def timed(rules: Rules) -> Rules:
    """Let rules that cannot wait be IMMEDIATE."""
    while True:
        try:
            plan_all(rules)
        except RuleError as error:
            if error.check_id not in CANNOT_WAIT:
                raise
            rules = [(model, [at_once(rule, model, error) for rule in declared]) for model, declared in rules]
        else:
            return rules


def at_once(rule: Denormalize, model: type[Model], error: RuleError) -> Denormalize:
    """Return a rule as it is, or IMMEDIATE where an error says that it cannot wait."""
    named = re.findall(r"\b[a-z]+\.[A-Z]\w+:\w+", error.reason)
    late = named[-1] if error.check_id == "trigger_kit.E032" else named[0]
    is_meant = rule_uri(model, rule.field) == late
    return Denormalize(rule.field, rule.expression) if is_meant else rule


def rules_of(model: type[Model], **expressions: Any) -> Rules:
    """Return rules of one model: expressions by their columns."""
    return [(model, [Denormalize(name, expression) for name, expression in expressions.items()])]


def check(rules: Rules, model: type[Model], *names: str) -> list[tuple[Any, ...]]:
    """Return the stored values in key order, once they are found to be the true ones."""
    assert_rules_hold(rules)
    return list(model._base_manager.order_by("pk").values_list(*names))
