"""MIGRATE: what Django's executor knows, and migrations are not told.

It gives a migration that is taken back the state of what comes before it in the plan. What was applied after it, in
other apps, is still there: triggers are compiled from what the database has. And the state that a run ends with goes to
nobody: the upgrade of triggers starts from it.
"""

from __future__ import annotations

from typing import Any

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

__all__ = ["listen", "migrate", "output_of", "take_state", "unapply_migration"]

# The states that runs of migrate have ended with, and where these write to, and how much they say; by database.
_states: dict[str, tuple[ProjectState, MigrationExecutor] | None] = {}
_outputs: dict[str, tuple[Any, int]] = {}


def listen(using: str, stdout: Any, verbosity: int) -> None:
    """Keep the state that the run which begins now will end with, and what it writes to."""
    _states[using] = None
    _outputs[using] = stdout, verbosity


def take_state(using: str) -> tuple[ProjectState, MigrationExecutor] | None:
    """Return the state that a run has ended with, and its executor; None where no run of migrate was heard.

    ``flush`` sends post_migrate, too: nothing has changed then.
    """
    _outputs.pop(using, None)
    return _states.pop(using, None)


def output_of(using: str) -> tuple[Any, int]:
    """Return what the run of migrate that goes on writes to, and how much it says: an operation is not told."""
    return _outputs.get(using, (None, 0))


def migrate(
    original: Any,
    executor: MigrationExecutor,
    targets: Any,
    plan: Any = None,
    state: Any = None,
    fake: bool = False,
    **kwargs: Any,
) -> Any:
    """Migrate, and keep the state that it ends with."""
    steps = executor.migration_plan(targets) if plan is None else plan
    state = original(executor, targets, steps, state, fake, **kwargs)
    if executor.connection.alias in _states:
        is_known = not fake and not any(is_backwards for _, is_backwards in steps)
        _states[executor.connection.alias] = state if is_known else _as_recorded(executor), executor
    return state


def _as_recorded(executor: MigrationExecutor) -> ProjectState:
    """Return the state of what is applied by now.

    Django's own does not learn of what is only faked, nor of a sibling that was taken back before.
    """
    executor.loader.build_graph()
    _taken_back(executor).clear()
    create: Any = executor._create_project_state  # type: ignore[attr-defined]
    state: ProjectState = create(with_applied_migrations=True)
    return state


def unapply_migration(
    original: Any, executor: MigrationExecutor, state: ProjectState, migration: Migration, fake: bool = False
) -> Any:
    """Take a migration back from what the database has."""
    before = state if fake else _as_applied(executor, state, migration)
    result = original(executor, before, migration, fake=fake)
    _taken_back(executor).add(migration)
    return result


def _taken_back(executor: MigrationExecutor) -> set[Migration]:
    """Return the migrations that an executor has taken back: its loader does not learn of it."""
    found: set[Migration] = vars(executor).setdefault("_trigger_kit_taken_back", set())
    return found


def _as_applied(executor: MigrationExecutor, state: ProjectState, migration: Migration) -> ProjectState:
    """Return the state before a migration as the database has it.

    Not all that is applied is in the state that Django has: what came later and stays is missing, and a sibling that
    has been taken back a moment ago is still there.
    """
    loader: Any = executor.loader
    plan = [item for item, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True)]
    here, taken_back = plan.index(migration), _taken_back(executor)
    applied = {loader.graph.nodes[key] for key in loader.applied_migrations if key in loader.graph.nodes} - taken_back
    later = [item for item in plan[here + 1 :] if item in applied]
    if taken_back.intersection(plan[:here]):
        whole = ProjectState(real_apps=state.real_apps)
        later = [*(item for item in plan[:here] if item in applied), *later]
    elif later:
        whole = ProjectState({key: model.clone() for key, model in state.models.items()}, state.real_apps)
    else:
        return state
    for item in later:
        item.mutate_state(whole, preserve=False)
    return whole
