"""The parts of function bodies that all functions share: what a DBA reads first, depth, and marks."""

from __future__ import annotations

from collections.abc import Iterable

from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Plan
from trigger_kit.sql.text import block, escape_braces, regclass_placeholder, short_digest, table_placeholder

__all__ = [
    "DEPTH",
    "FILLED",
    "FRESH",
    "LOCKING",
    "PATH",
    "PLANS",
    "STATEMENT",
    "begin",
    "header",
    "is_marked",
    "is_set",
    "locking_test",
    "mark_expression",
    "mark_name",
    "restore_depth",
    "restore_plans",
    "set_depth",
    "set_mark",
    "set_plans",
    "update_head",
]

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


# Declares what set_plans() and restore_plans() use.
PLANS = """\
tk_plans text;
tk_outer_plans text := current_setting('plan_cache_mode');
tk_outer_seqscan text := current_setting('enable_seqscan');"""


def header(plan: Plan, sentence: str, kept_columns: Iterable[KeptColumn]) -> str:
    """Return the comment that a DBA reads first: what the function does, for which rules."""
    rules = "\n".join(f"--   {_on_one_line(kept.resolved.description)}" for kept in kept_columns)
    sentence = _on_one_line(sentence)
    return escape_braces(
        f"-- {sentence}\n"
        f"-- Rules of {plan.model._meta.label}:\n{rules}\n"
        "-- Written by trigger_kit. To change it, change the rules and run makemigrations."
    )


def begin(table: str) -> str:
    """Return BEGIN and the statement that refuses to run for another table than the trigger's, before a row is read.

    Who may execute a trigger function can put it on a table of his own, and it runs as its owner: a restore without
    privileges lets everybody. The triggers of partitions are clones of their root's.
    """
    own = regclass_placeholder(table)
    lines = [
        "-- This function runs as its owner: not for a table that somebody else has put it on.",
        f"IF TG_RELID <> {own} AND pg_partition_root(TG_RELID) IS DISTINCT FROM {own} THEN",
        "    RAISE EXCEPTION USING MESSAGE = format('This trigger function is not for %s.', TG_RELID::regclass),",
        "              ERRCODE = 'insufficient_privilege';",
        "END IF;",
    ]
    return "BEGIN\n" + block("\n".join(lines))


def update_head(table: str, kept_columns: Iterable[KeptColumn]) -> str:
    """Return the first line of an UPDATE; its comment names the rules in the context of PostgreSQL's errors."""
    uris = ", ".join(kept.resolved.uri for kept in kept_columns)
    return f"UPDATE {table_placeholder(table)} AS target -- {escape_braces(_on_one_line(uris))}"


def _on_one_line(text: str) -> str:
    """Return text without line breaks, which would end a comment."""
    return " ".join(text.splitlines())


def is_marked(plan: Plan, mark: str) -> str:
    """Return the condition under which this client statement has set a mark of the target."""
    return f"current_setting('{mark_name(plan, mark)}', true) = {STATEMENT}"


def is_set(plan: Plan, mark: str) -> str:
    """Return the cheap condition under which the mark may be set at all."""
    return f"current_setting('{mark_name(plan, mark)}', true) <> ''"


def set_mark(plan: Plan, mark: str) -> str:
    """Return the statement that sets a mark of the target, for the rest of this client statement."""
    return f"PERFORM {mark_expression(plan, mark)};"


def mark_expression(plan: Plan, mark: str) -> str:
    """Return the expression that sets a mark of the target where it is evaluated; its value is not empty."""
    return f"set_config('{mark_name(plan, mark)}', {STATEMENT}, true)"


def mark_name(plan: Plan, mark: str) -> str:
    """Return the setting that holds a mark of the target."""
    return f"trigger_kit.{mark}_{short_digest(plan.target)}"


def set_depth() -> str:
    """Return the statement that tells the guard at which trigger depth maintenance writes.

    An assignment: PL/pgSQL evaluates it as a plain expression, where PERFORM would run a query.
    """
    return "tk_depth := set_config('trigger_kit.depth', pg_trigger_depth()::text, true);"


def locking_test() -> str:
    """Return the test for an UPDATE that changes nothing: it only writes rows that were locked."""
    return (
        "-- An UPDATE that only writes rows which were locked changes nothing.\n"
        f"IF current_setting('{LOCKING}', true) = (pg_trigger_depth() - 1)::text THEN\n"
        "    RETURN NULL;\n"
        "END IF;"
    )


def restore_depth() -> str:
    """Return the statement that puts the depth back."""
    return "tk_depth := set_config('trigger_kit.depth', tk_outer_depth, true);"


def set_plans() -> str:
    """Return the statements after which statements over arrays are planned once in a session, and go by indexes.

    PostgreSQL takes a plan for any array to be dearer than one for this short array, and plans anew, which takes longer
    than the statement. For any array it expects ten values, for which it would read a small table from end to end.
    """
    return (
        "-- One plan for arrays of any length, by index: planning anew would take longer than most statements.\n"
        "tk_plans := set_config('plan_cache_mode', 'force_generic_plan', true);\n"
        "tk_plans := set_config('enable_seqscan', 'off', true);"
    )


def restore_plans() -> str:
    """Return the statements that let PostgreSQL plan as it did."""
    return (
        "tk_plans := set_config('plan_cache_mode', tk_outer_plans, true);\n"
        "tk_plans := set_config('enable_seqscan', tk_outer_seqscan, true);"
    )
