"""OPERATE: the questions to a catalog that tell what triggers cannot see, and what to say where the answer is yes."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOG_QUERIES", "COMMIT", "EDITED", "ELSEWHERE", "ROLE", "CatalogQuery"]


@dataclass(frozen=True)
class CatalogQuery:
    """One question to the catalog: its SQL returns those of some tables that it is true of, and a subject for each.

    ``of`` says which tables of a plan it is about: its ``sources``, its ``target`` or ``all``. With ``unless`` it is
    told only where it is not true of the plan's ``target``, or its ``queue``, as well; this is the subject then.
    ``is_own`` says that subjects are triggers of ours, so that those of other plans and schemas are left out. Texts
    name the ``{table}``, the ``{subject}`` and the ``{models}`` whose rules are concerned.
    """

    kind: str
    of: str
    sql: str
    reason: str
    hint: str
    is_certain: bool = True
    unless: str = ""
    is_own: bool = False


REPAIR = "manage.py trigger_kit repair {models}"
AFRESH = (
    "manage.py trigger_kit uninstall {models}, then manage.py trigger_kit install {models}, which fills columns too"
)

CATALOG_QUERIES = (
    CatalogQuery(
        "partitioned",
        "all",
        """
        SELECT oid::regclass::text, oid::regclass::text FROM pg_class
        WHERE oid = ANY (%(tables)s::regclass[]) AND relkind = 'p'
        """,
        "{table} is partitioned: rows that are written straight into one of its partitions, or come and go with ATTACH "
        "and DETACH PARTITION, are not seen.",
        f"Write through {{table}}; after the others run {REPAIR}.",
        is_certain=False,
    ),
    CatalogQuery(
        "partition",
        "all",
        """
        SELECT inhrelid::regclass::text, inhparent::regclass::text
        FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhrelid = ANY (%(tables)s::regclass[]) AND child.relispartition
        """,
        "{table} is a partition of {subject}: what is written through {subject} is not seen.",
        "Declare the model on {subject}, or write to {table} only.",
    ),
    CatalogQuery(
        "children",
        "all",
        """
        SELECT inhparent::regclass::text, string_agg(inhrelid::regclass::text, ', ' ORDER BY inhrelid::regclass::text)
        FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent
        WHERE inhparent = ANY (%(tables)s::regclass[]) AND parent.relkind <> 'p' GROUP BY inhparent
        """,
        "{subject} inherits from {table}: its rows count, but what is written to it by name is not seen.",
        f"Run {REPAIR} after writing to it, or let it stop: ALTER TABLE {{subject}} NO INHERIT {{table}}.",
    ),
    CatalogQuery(
        "parent",
        "all",
        """
        SELECT inhrelid::regclass::text, inhparent::regclass::text
        FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
        WHERE inhrelid = ANY (%(tables)s::regclass[]) AND NOT child.relispartition
        """,
        "{table} inherits from {subject}: an UPDATE or DELETE of {subject} changes its rows, and is not seen.",
        "Write to {table}, or to ONLY {subject}.",
        is_certain=False,
    ),
    CatalogQuery(
        "foreign",
        "all",
        """
        WITH RECURSIVE below AS (
            SELECT oid AS root, oid FROM pg_class WHERE oid = ANY (%(tables)s::regclass[])
            UNION ALL SELECT below.root, inhrelid FROM below JOIN pg_inherits ON inhparent = below.oid
        )
        SELECT below.root::regclass::text, pg_class.oid::regclass::text
        FROM below JOIN pg_class USING (oid) WHERE relkind = 'f'
        """,
        "{subject}, a part of {table}, is a foreign table: what the other server changes in it is not seen.",
        f"Run {REPAIR} after such changes, or keep the value with .annotate().",
    ),
    CatalogQuery(
        "unlogged",
        "sources",
        """
        SELECT oid::regclass::text, '' FROM pg_class
        WHERE oid = ANY (%(tables)s::regclass[]) AND relpersistence = 'u'
        """,
        "{table} is UNLOGGED: a crash of the server empties it, and no trigger sees that; {subject} stays as it was.",
        f"Run {REPAIR} after a crash, or ALTER TABLE {{table}} SET LOGGED.",
        unless="target",
    ),
    CatalogQuery(
        "subscription",
        "sources",
        "SELECT srrelid::regclass::text, '' FROM pg_subscription_rel WHERE srrelid = ANY (%(tables)s::regclass[])",
        "{table} comes by logical replication, whose rows fire no trigger of ours, and {subject} does not come along.",
        f"Publish {{subject}} too and refresh the subscription; until then run {REPAIR} from time to time.",
        unless="target",
    ),
    CatalogQuery(
        "queue_subscription",
        "target",
        "SELECT srrelid::regclass::text, '' FROM pg_subscription_rel WHERE srrelid = ANY (%(tables)s::regclass[])",
        "{table} comes by logical replication without {subject}: QUEUED columns are behind by what is pending there.",
        "Publish {subject} too and refresh the subscription, or read these columns as of the last flush.",
        unless="queue",
    ),
    CatalogQuery(
        "guarded_subscription",
        "target",
        """
        SELECT srrelid::regclass::text, tgname FROM pg_subscription_rel JOIN pg_trigger ON tgrelid = srrelid
        WHERE srrelid = ANY (%(tables)s::regclass[]) AND tgname = ANY (%(triggers)s)
          AND tgenabled IN ('A', 'R') AND tgtype & 1 = 1
        """,
        "{table} comes by logical replication, and {subject} fires for its rows: kept values are not taken over.",
        "ALTER TABLE {table} ENABLE TRIGGER {quoted}: the publisher has computed them.",
        is_own=True,
    ),
    CatalogQuery(
        "replica_only",
        "all",
        """
        SELECT tgrelid::regclass::text, tgname FROM pg_trigger
        WHERE tgrelid = ANY (%(tables)s::regclass[]) AND tgname = ANY (%(triggers)s) AND tgenabled = 'R'
        """,
        "{subject} on {table} is set ENABLE REPLICA: it does not fire for ordinary writers.",
        f"ALTER TABLE {{table}} ENABLE TRIGGER {{quoted}}, then run {REPAIR}.",
        is_own=True,
    ),
    CatalogQuery(
        "always",
        "all",
        """
        SELECT tgrelid::regclass::text, tgname FROM pg_trigger
        WHERE tgrelid = ANY (%(tables)s::regclass[]) AND NOT tgisinternal AND tgenabled IN ('A', 'R')
          AND NOT tgname = ANY (%(triggers)s)
        """,
        "{subject} on {table} also fires for rows of a replication, when ours do not: what it writes to sources or "
        "targets is not seen then.",
        "Use ENABLE TRIGGER for it, or let it write nothing that rules read.",
        is_certain=False,
    ),
    CatalogQuery(
        "late_trigger",
        "target",
        """
        SELECT theirs.tgrelid::regclass::text, theirs.tgname FROM pg_trigger AS theirs
        WHERE theirs.tgrelid = ANY (%(tables)s::regclass[]) AND NOT theirs.tgisinternal AND theirs.tgenabled <> 'D'
          AND NOT theirs.tgname = ANY (%(triggers)s) AND theirs.tgtype & 3 = 3 AND EXISTS (
            SELECT FROM pg_trigger AS ours
            WHERE ours.tgrelid = theirs.tgrelid AND ours.tgname = ANY (%(triggers)s) AND ours.tgtype & 3 = 3
              AND ours.tgtype & theirs.tgtype & 20 <> 0 AND theirs.tgname COLLATE "C" > ours.tgname COLLATE "C"
        )
        """,
        "{subject} on {table} fires after our guard, because its name sorts later: what it changes in a kept column "
        "stays.",
        "Give it a name that sorts before '~': ALTER TRIGGER {quoted} ON {table} RENAME TO ….",
        is_certain=False,
    ),
    CatalogQuery(
        "rewrite_rule",
        "all",
        """
        SELECT ev_class::regclass::text, rulename FROM pg_rewrite
        WHERE ev_class = ANY (%(tables)s::regclass[]) AND ev_type <> '1' AND ev_enabled <> 'D'
        """,
        "The rewrite rule {subject} on {table} changes statements before any trigger sees them, also those that keep "
        "values.",
        "Replace it by a trigger.",
        is_certain=False,
    ),
)

ROLE = CatalogQuery(
    "replica_role",
    "",
    """
    SELECT '', CASE WHEN setrole = 0 THEN 'the database ' || current_database()
                    ELSE 'the role ' || pg_get_userbyid(setrole) END
    FROM pg_db_role_setting
    WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND 'session_replication_role=replica' = ANY (setconfig)
    UNION SELECT '', 'this session' WHERE current_setting('session_replication_role') = 'replica'
    ORDER BY 2
    """,
    "session_replication_role is replica for {subject}: no trigger fires for what it writes.",
    f"Take the setting back, then run {REPAIR}.",
)

COMMIT = CatalogQuery(
    "no_commit",
    "",
    """
    SELECT nspname, tgname
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = %(schema)s AND relname = 'tk_commit' AND tgname = 'tk_commit' AND tgenabled IN ('O', 'A')
    """,
    "The trigger tk_commit on {table} is missing or disabled: DEFERRED rules are not settled at commit.",
    f"ALTER TABLE {{table}} ENABLE TRIGGER tk_commit, then run {REPAIR}. Where it is missing, run in psql "
    "what manage.py trigger_kit sql {models} prints.",
)

ELSEWHERE = CatalogQuery(
    "elsewhere",
    "",
    "",
    "Triggers of {subject} sit on {table}: the one has taken the other's name, without its triggers.",
    f"Run {AFRESH}.",
)

EDITED = CatalogQuery(
    "edited",
    "",
    "",
    "The {subject} is not what trigger_kit has written: somebody has changed it in the database.",
    f"Run {AFRESH}.",
)
