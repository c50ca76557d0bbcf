"""The parts of function bodies that all functions share: what a DBA reads first, depth, and marks."""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Plan
from trigger_kit.sql.function import call
from trigger_kit.sql.text import block, escape_braces, regclass_placeholder, short_digest, table_placeholder

__all__ = [
    "ARRIVED",
    "DEPTH",
    "FILLED",
    "FRESH",
    "IS_MARKED",
    "LOCKING",
    "MARK",
    "PATH",
    "REFUSE",
    "REQUIRE_READ_COMMITTED",
    "STATEMENT",
    "WAITS",
    "begin",
    "brief",
    "header",
    "is_locking",
    "is_marked",
    "locking_test",
    "mark_name",
    "restore_depth",
    "set_depth",
    "set_mark",
    "update_head",
]

# The functions that all trigger functions of a schema call: their text is in shared.py.
REFUSE, IS_MARKED, MARK, ARRIVED = "tk_refuse_v1", "tk_is_marked_v1", "tk_mark_v1", "tk_arrived_v1"
REQUIRE_READ_COMMITTED, WAITS = "tk_require_read_committed_v1", "tk_waits_v1"

# Names the client's statement, whatever its TimeZone and DateStyle.
STATEMENT = "extract(epoch FROM statement_timestamp())::text"

# Marks of a target, valid for one client statement. FILLED: a full value was written, so that steps which fire later
# must not add what it may hold already. FRESH: a row was inserted or took a new key, so that rows which had left before
# it came must not be taken off.
FILLED = "filled"
FRESH = "fresh"
# PATH: a table along a path of several hops changes in this statement; its name follows.
PATH = "woven"  # the name of the setting

# Holds the trigger depth at which an UPDATE changes nothing: it only writes rows that were locked.
LOCKING = "trigger_kit.locking"

# Declares what set_depth() and restore_depth() use.
DEPTH = """\
tk_depth text;
tk_outer_depth text := coalesce(current_setting('trigger_kit.depth', true), '');"""


def header(plan: Plan, sentence: str, kept_columns: Iterable[KeptColumn]) -> str:
    """Return the comment that a DBA reads first: what the function does, for which rules.

    Whoever wants another text changes the rules and runs makemigrations: an edited function is seen (``edits.py``).
    """
    rules = [_on_one_line(kept.resolved.description) for kept in kept_columns]
    label = plan.model._meta.label
    lines = [f"-- Written by trigger_kit for {label}: {rules[0]}"]
    if len(rules) > 1:
        lines = [f"-- Written by trigger_kit for the rules of {label}:", *(f"--   {rule}" for rule in rules)]
    return escape_braces("\n".join([f"-- {_on_one_line(sentence)}", *lines]))


def brief(plan: Plan, sentence: str, kept_columns: Iterable[KeptColumn] = ()) -> str:
    """Return the comment of a function whose rules others list: all of the target's, or those of some columns."""
    fields = ", ".join(kept.resolved.rule.field for kept in kept_columns)
    rules = f"{plan.model._meta.label}:{fields}" if fields else plan.model._meta.label
    return escape_braces(f"-- {_on_one_line(sentence)}\n-- Written by trigger_kit for the rules of {rules}.")


def begin(table: str) -> str:
    """Return BEGIN and the statement that refuses to run for another table than the trigger's, before a row is read.

    Who may execute a trigger function can put it on a table of his own, and it runs as its owner: a restore without
    privileges lets everybody. The triggers of partitions are clones of their root's.
    """
    own = regclass_placeholder(table)
    return (
        f"BEGIN\n    IF TG_RELID <> {own} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {own} THEN "
        f"PERFORM {call(REFUSE, 'TG_RELID')}; END IF;"
    )


def update_head(table: str, kept_columns: Iterable[KeptColumn]) -> str:
    """Return the first line of an UPDATE; its comment names the rules in the context of PostgreSQL's errors."""
    uris = ", ".join(kept.resolved.uri for kept in kept_columns)
    return f"UPDATE {table_placeholder(table)} AS target -- {escape_braces(_on_one_line(uris))}"


def _on_one_line(text: str) -> str:
    """Return text without line breaks, which would end a comment."""
    return " ".join(text.splitlines())


def is_marked(plan: Plan, mark: str) -> str:
    """Return the condition under which this client statement has set a mark of the target."""
    return call(IS_MARKED, f"'{mark_name(plan, mark)}'::text")


def set_mark(plan: Plan, *marks: str) -> str:
    """Return the statement that sets marks of the target, for the rest of this client statement."""
    calls = (call(MARK, f"'{mark_name(plan, mark)}'::text") for mark in marks)
    return f"PERFORM {', '.join(calls)};"


def mark_name(plan: Plan, mark: str) -> str:
    """Return the name of a mark of the target; ``trigger_kit.`` before it makes that of the setting which holds it."""
    return f"{mark}_{short_digest(plan.target)}"


def set_depth() -> str:
    """Return the statement that tells the guard at which trigger depth maintenance writes.

    An assignment: PL/pgSQL evaluates it as a plain expression, where PERFORM would run a query.
    """
    return "tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);"


def is_locking() -> str:
    """Return the condition under which an UPDATE is said to change nothing: it only writes rows that were locked."""
    return f"current_setting('{LOCKING}', true) = (pg_trigger_depth() - 1)::text"


def locking_test(*otherwise: str) -> str:
    """Return the test for an UPDATE that changes nothing: it only writes rows that were locked.

    Anybody may set the setting that says so: the rows must say so, too. ``otherwise`` are run where they do not.
    """
    differ = "SELECT old_rows::text FROM old_rows EXCEPT ALL SELECT new_rows::text FROM new_rows"
    lines = [f"IF NOT EXISTS ({differ}) THEN RETURN NULL; END IF;", *otherwise]
    comment = "-- An UPDATE that only writes rows which were locked changes nothing: where it is said to be one, look."
    return f"{comment}\nIF {is_locking()} THEN\n{block(chr(10).join(lines))}\nEND IF;"


def restore_depth() -> str:
    """Return the statement that puts the depth back."""
    return "tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);"
