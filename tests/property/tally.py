"""Counts what the property test has tried: strategy and relation of a rule, by the kind of statement that it met.

TRIGGER_KIT_TALLY=docs/coverage.md pytest tests/property/test_grammar.py writes the table anew.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.property.statements import Copy, Script
from trigger_kit.plan.kept_columns import KeptColumn
from trigger_kit.plan.plan import Plan

WRITERS = ("INSERT", "ON CONFLICT", "UPDATE", "key UPDATE", "DELETE", "MERGE", "COPY", "CTE", "DO block", "TRUNCATE")
_KEYS = re.compile(r"SET (id|code|number|work_id) = ")
TALLY: Counter[tuple[str, str, str]] = Counter()
SEQUENCES: Counter[str] = Counter()


def note(plans: list[Plan], step: Callable[[], None]) -> None:
    """Count a statement that has run for every rule that reads or keeps one of its tables."""
    text = f"COPY {step.table}" if isinstance(step, Copy) else step.sql if isinstance(step, Script) else ""
    tables = set(re.findall(r"archive_[a-z_]+", text))
    for plan in plans:
        for kept in plan.kept_columns:
            if tables & {plan.target, *(source.table for source in kept.resolved.sources)}:
                TALLY[strategy_of(kept), relation_of(kept), writer_of(text)] += 1


def writer_of(text: str) -> str:
    """Return the kind of a statement."""
    if text.startswith("WITH"):
        return "CTE"
    if text.startswith("DO "):
        return "DO block"
    if "DO UPDATE" in text:
        return "ON CONFLICT"
    if text.startswith("UPDATE") and _KEYS.search(text):
        return "key UPDATE"
    return text.split(" ", 1)[0]


def strategy_of(kept: KeptColumn) -> str:
    """Return a rule's strategy; averages that are served and recursions are told apart."""
    if kept.served_by:
        return "delta (average)"
    return "recursion" if kept.resolved.is_recursive else kept.strategy.value


def relation_of(kept: KeptColumn) -> str:
    """Return the widest kind of relation on a rule's paths."""
    paths: list[Any] = [source.path for source in kept.resolved.sources if source.path]
    hops = [hop for path in paths for hop in path]
    tables = {hop.table for hop in hops}
    if not hops:
        return "own row"
    if any(hop.content_type for hop in hops):
        return "generic"
    if any(len(hop.near) > 1 for hop in hops):
        return "composite key"
    if tables & {"archive_work_tags", "archive_person_friends", "archive_person_follows", "archive_credit"}:
        return "many to many"
    if "archive_novel" in tables or kept.resolved.column.table == "archive_novel":
        return "inheritance"
    if kept.resolved.column.table in tables:
        return "self"
    if all(hop.far_is_unique for hop in hops):
        return "forward"
    return "several hops" if max(map(len, paths)) > 1 else "foreign key"


def table() -> str:
    """Return the tally as a Markdown table."""
    rows = sorted({(strategy, relation) for strategy, relation, _ in TALLY})
    lines = [
        f"| strategy | relation | {' | '.join(WRITERS)} |",
        f"|---|---|{'---:|' * len(WRITERS)}",
    ]
    for strategy, relation in rows:
        counts = " | ".join(str(TALLY[strategy, relation, writer]) for writer in WRITERS)
        lines.append(f"| {strategy} | {relation} | {counts} |")
    return "\n".join(lines)


HEADER = """# What the property test has tried

Random rules out of the grammar (`tests/archive/rules.py`) meet random writers (`tests/property/statements.py`); after
every statement each stored value must equal Django's `annotate()`. A cell counts statements of a kind, a CTE or `DO`
block with all its parts as one, that ran while a rule of this strategy read or kept one of their tables. Further
statements ended in an error of PostgreSQL's and changed nothing, which was checked as well.

Written by `TRIGGER_KIT_TALLY=docs/coverage.md TRIGGER_KIT_EXAMPLES=… pytest tests/property/test_grammar.py`:
{sequences} sequences of statements.

"""


def document() -> str:
    """Return the page for the documentation."""
    return HEADER.format(sequences=f"{SEQUENCES['all']:,}") + table() + "\n"
