"""INSTALL: whether what a target has belongs to its owner alone, and looks where nobody else puts anything."""

from __future__ import annotations

from collections.abc import Iterator

from trigger_kit.database.catalog import Placement
from trigger_kit.database.wanted import Wanted
from trigger_kit.sql.text import identifier

__all__ = ["is_settled", "settling"]

# Another session may have another search_path: more schemas than it has may be pinned, if only they are closed.
_UNSETTLED = """
WITH mine AS (
    SELECT function.proowner AS owner, CASE WHEN prosecdef THEN coalesce((
        SELECT string_to_array(substr(setting, 13), ', ')
        FROM unnest(function.proconfig) AS setting WHERE setting LIKE 'search_path=%%'
    ), '{}') END AS pinned, EXISTS (
        SELECT FROM aclexplode(coalesce(function.proacl, acldefault('f', function.proowner))) AS acl
        WHERE acl.grantee = 0 AND function.proname !~ '^tk_exact_'
           OR acl.grantee <> function.proowner AND function.proname !~ '^tk_(exact|flush)_'
    ) AS is_granted
    FROM pg_proc AS function JOIN pg_class AS target ON target.relnamespace = function.pronamespace
    WHERE target.oid = to_regclass(%(table)s) AND function.proname = ANY (%(functions)s)
    UNION ALL
    SELECT relation.relowner, NULL, false
    FROM pg_class AS relation JOIN pg_class AS target ON target.relnamespace = relation.relnamespace
    WHERE target.oid = to_regclass(%(table)s) AND relation.relname = ANY (%(relations)s)
)
SELECT EXISTS (
    SELECT FROM mine
    WHERE owner <> (SELECT relowner FROM pg_class WHERE oid = to_regclass(%(table)s))
       OR is_granted
       OR NOT (SELECT array_agg(quote_ident(name)) FROM unnest(%(path)s::text[]) AS name) <@ pinned
       OR pinned && (SELECT array_agg(quote_ident(name)) FROM unnest(%(open)s::text[]) AS name)
)
"""


def is_settled(place: Placement, wanted: Wanted) -> bool:
    """Whether a target's functions and tables are its owner's alone, and have the path that would be pinned now."""
    with place.connection.cursor() as cursor:
        cursor.execute(
            _UNSETTLED,
            {
                "table": place(wanted.table),
                "functions": wanted.belongings.functions,
                "relations": wanted.belongings.relations,
                "path": ["pg_catalog", *place.path, "pg_temp"],
                "open": [name for name, _ in place.left_out],
            },
        )
        (is_open,) = cursor.fetchone()
    return not is_open


def settling(wanted: Wanted, place: Placement) -> Iterator[str]:
    """Yield the statements that end an installation: owners, rights, and what cannot do without a schema left out."""
    yield wanted.belongings.settle()
    if left_out := [(identifier(name), roles) for name, roles in place.left_out]:
        yield wanted.belongings.refuse_left_out(left_out)
