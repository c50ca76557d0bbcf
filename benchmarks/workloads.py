"""What the soak's writers write: tables, random statements over them, and the workloads that combine them with rules.

A workload is data. A new one, with another timing, say, is one more entry of WORKLOADS::

    Workload("one edge", ONE_EDGE, EDGE, timing="DEFERRED", is_single=False),

The point of the soak is to tell the deadlocks that triggers add from those that writers make by themselves. So the
statements are such that they do not deadlock without triggers:

* rows that only one writer knows are written in random order; in transactions of several statements there are no
  others
* rows that several writers know, or that triggers write too (``Workload.written``), are written in the order of their
  keys, as any program must that wants to avoid deadlocks; sessions scan indexes (``soak.SETTINGS``), so that a plain
  ``UPDATE … WHERE id = ANY (…)`` does so. (To lock the rows first, in a CTE, deadlocks in PostgreSQL itself: a
  statement that comes back to a row's old version, which others have locked for their foreign keys, waits for those
  who wait for the new one.)
* rows that are inserted name their parents, hot and cold ones, in random order
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

Keep = Callable[[str, Any], Any]
Rules = list[tuple[Any, list[Any]]]
Value = Callable[["Writer"], Any]
Maker = Callable[["Writer"], "Statement"]

OWN_KEYS = 10_000  # keys from here on belong to the writer who made them
RECENT = 2_000  # how many of its latest keys a writer still remembers
SHARED = 0.4  # how often a statement takes rows that others take too
HOT = 3


class Statement(NamedTuple):
    """SQL that a writer sends, and what to call it in a report."""

    title: str
    sql: str


@dataclass(frozen=True)
class Table:
    """A table: what its columns (with their types) may hold, which keys are there, and which of them come and go.

    Keys up to ``seeded`` are there from the start and stay, the first few of them hot; any writer makes and deletes
    the ``slots`` after them; each writer has keys of its own further up.
    """

    name: str
    columns: Mapping[str, tuple[str, Value]]
    seeded: int = 0
    slots: int = 20
    key: str = "id"

    @property
    def title(self) -> str:
        """The name without the app's."""
        return self.name.removeprefix("archive_")

    def having(self, **values: Value) -> Table:
        """Return the same table with other values in some columns."""
        changed = {name: (self.columns[name][0], value) for name, value in values.items()}
        return replace(self, columns={**self.columns, **changed})


@dataclass(frozen=True)
class Workload:
    """Rules, who writes what under them, and how.

    ``written`` are the tables whose rows the rules write beside the writers. ``is_inherent``: deadlocks are part of
    what the rules ask for, and are shown apart.
    """

    name: str
    rules: tuple[str, ...]
    statements: tuple[Maker, ...]
    timing: str = "IMMEDIATE"
    isolation: str = "READ COMMITTED"
    is_single: bool = True
    is_inherent: bool = False
    written: frozenset[str] = frozenset()

    @property
    def is_judged(self) -> bool:
        """Whether a deadlock that the same workload does not show without triggers is a failure."""
        if self.is_inherent or self.isolation != "READ COMMITTED":  # Elsewhere writers try again anyway, after 40001.
            return False
        return self.is_single or self.timing != "IMMEDIATE"

    def declared(self) -> Rules:
        """Return the rules with this workload's timing; Django must be set up."""
        from trigger_kit import Denormalize, Timing

        known = all_rules(lambda field, expression: Denormalize(field, expression, timing=Timing[self.timing]))
        found: dict[Any, list[Any]] = {}
        for model, rules in (pair for name in self.rules for pair in known[name]):
            found.setdefault(model, []).extend(rules)
        return list(found.items())


class Writer:
    """One writer's dice and keys. Equal seeds give equal statements, whatever happens to them."""

    def __init__(self, workload: Workload, seed: int, number: int, writers: int, types: Mapping[str, int]) -> None:
        self.workload = workload
        self.number = number
        self.writers = writers
        self.types = types
        self.dice = random.Random(f"{seed}/{workload.name}/{number}")
        self.made: Counter[str] = Counter()

    def transaction(self) -> list[Statement]:
        """Return the statements of the next transaction."""
        count = 1 if self.workload.is_single else self.dice.randint(2, 5)
        return [self.dice.choice(self.workload.statements)(self) for _ in range(count)]

    def size(self, most: int = 500) -> int:
        """Return a number of rows: often one, sometimes hundreds."""
        return min(most, self.dice.choice((1, 1, 1, self.dice.randint(2, 20), self.dice.randint(1, 500))))

    def seeded(self, table: Table) -> int:
        """Return the key of a row that stays: a hot or a cold one."""
        return self.dice.randint(1, HOT if self.dice.random() < 0.6 else table.seeded)

    def slot(self, table: Table) -> int:
        """Return the key of a row that may be there or not."""
        return table.seeded + self.dice.randint(1, table.slots)

    def new(self, table: Table, count: int) -> list[int]:
        """Return new keys of this writer's, in random order."""
        start = self.made[table.name]
        self.made[table.name] += count
        return self.dice.sample([self._key(number) for number in range(start, start + count)], count)

    def own(self, table: Table, most: int = 500) -> list[int]:
        """Return keys that this writer has made, in random order."""
        made = self.made[table.name]
        first = max(0, made - RECENT)
        return [self._key(n) for n in self.dice.sample(range(first, made), min(made - first, self.size(most)))]

    def anywhere(self, table: Table) -> int:
        """Return the key of a row that stays, or of one that may be there or not."""
        return self.seeded(table) if table.seeded and self.dice.random() < 0.8 else self.slot(table)

    def several(self, table: Table, pick: Callable[[Table], int], most: int = 500) -> list[int]:
        """Return picked keys in their order."""
        return sorted({pick(table) for _ in range(self.size(most))})

    def _key(self, number: int) -> int:
        return OWN_KEYS + number * self.writers + self.number


# Values -------------------------------------------------------------------------------------------------------------


def one_of(*values: Any) -> Value:
    """Return a value: one of these."""
    return lambda writer: writer.dice.choice(values)


def within(least: int, most: int) -> Value:
    """Return a value: a number."""
    return lambda writer: writer.dice.randint(least, most)


def row_of(table: Table) -> Value:
    """Return a value: the key of a row that stays."""
    return lambda writer: writer.seeded(table)


def slot_of(table: Table) -> Value:
    """Return a value: the key of a row that may not be there."""
    return lambda writer: writer.slot(table)


def maybe(value: Value) -> Value:
    """Return a value that is NULL now and then."""
    return lambda writer: None if writer.dice.random() < 0.05 else value(writer)


def literal(value: Any) -> str:
    """Return a value of ours as SQL: none has a quote in it."""
    if isinstance(value, str):
        return f"'{value}'"
    return "NULL" if value is None else str(value).lower()


# Statements ---------------------------------------------------------------------------------------------------------


def insert(table: Table, conflict: str = "") -> Maker:
    """INSERT of new rows, in any order."""
    return lambda writer: Statement(
        f"insert {table.title}", insert_sql(writer, table, writer.new(table, writer.size()), conflict)
    )


def upsert(table: Table, *, lasting: bool = True, is_mixed: bool = False) -> Maker:
    """INSERT … ON CONFLICT: DO NOTHING, or DO UPDATE of rows that are all there, or of one; or of old and new ones."""

    def make(writer: Writer) -> Statement:
        keys = rows(writer, table, lasting=lasting)[0] or writer.new(table, 1)
        names = writer.dice.sample(list(table.columns), writer.dice.randint(0, min(3, len(table.columns))))
        if names and not is_mixed:
            keys = [key for key in keys if key <= table.seeded] or keys[:1]
        settings = ", ".join(f"{name} = EXCLUDED.{name}" for name in names)
        action = f"({table.key}) DO UPDATE SET {settings}" if settings else "DO NOTHING"
        return Statement(f"upsert {table.title}", insert_sql(writer, table, keys, f"ON CONFLICT {action}"))

    return make


def change(table: Table, *columns: str, most: int = 500, lasting: bool = True) -> Maker:
    """UPDATE of some of these columns; also of the rows that stay, or only of those that come and go."""

    def make(writer: Writer) -> Statement:
        names = writer.dice.sample(columns, writer.dice.randint(1, len(columns)))
        settings = ", ".join(f"{name} = {setting(writer, table, name)}" for name in names)
        keys, is_ordered = rows(writer, table, most, lasting)
        title = f"update {table.title} ({', '.join(columns)})"
        if is_ordered:
            return Statement(title, f"UPDATE {table.name} AS changed SET {settings} WHERE {among(table, keys)}")
        action = f"UPDATE {table.name} AS changed SET {settings} FROM"
        return Statement(title, shuffled_sql(table, keys, "NO KEY UPDATE", action))

    return make


def delete(table: Table) -> Maker:
    """DELETE of rows that nobody points at."""

    def make(writer: Writer) -> Statement:
        keys, is_ordered = rows(writer, table, lasting=False)
        title = f"delete {table.title}"
        if is_ordered:
            return Statement(title, f"DELETE FROM {table.name} WHERE {among(table, keys)}")
        return Statement(title, shuffled_sql(table, keys, "UPDATE", f"DELETE FROM {table.name} AS changed USING"))

    return make


def come(table: Table) -> Maker:
    """INSERT of rows that others point at already."""

    def make(writer: Writer) -> Statement:
        keys = writer.several(table, writer.slot, most=5)
        return Statement(f"come {table.title}", insert_sql(writer, table, keys, "ON CONFLICT DO NOTHING"))

    return make


def go(table: Table) -> Maker:
    """DELETE of a row that others may point at: where there is a foreign key it may be refused."""
    return lambda writer: Statement(
        f"go {table.title}", f"DELETE FROM {table.name} WHERE {table.key} = {writer.slot(table)}"
    )


def arrive(table: Table, column: str, parent: Table) -> Maker:
    """INSERT of a few rows under a parent that may not be there."""

    def make(writer: Writer) -> Statement:
        key = writer.slot(parent)
        under = table.having(**{column: lambda _: key})
        return Statement(f"arrive {table.title}", insert_sql(writer, under, writer.new(table, writer.size(most=3))))

    return make


def clear(table: Table, column: str, parent: Table) -> Maker:
    """DELETE of all rows under a parent."""
    return lambda writer: Statement(
        f"clear {table.title}", f"DELETE FROM {table.name} WHERE {column} = {writer.slot(parent)}"
    )


def pause(writer: Writer) -> Statement:
    """Do nothing for some milliseconds, so that transactions overlap."""
    return Statement("pause", f"SELECT pg_sleep({writer.dice.random() / 100:.4f})")


def link(writer: Writer) -> Statement:
    """INSERT of many-to-many rows that others insert too, in the order of the pairs."""
    pairs = sorted({(writer.seeded(WORK), writer.slot(TAG)) for _ in range(writer.size())})
    keys = writer.new(LINK, len(pairs))
    values = ", ".join(f"({key}, {work}, {tag})" for key, (work, tag) in zip(keys, pairs, strict=True))
    columns = ", ".join([LINK.key, *LINK.columns])
    return Statement("link", f"INSERT INTO {LINK.name} ({columns}) VALUES {values} ON CONFLICT DO NOTHING")


def touch_node(writer: Writer) -> Statement:
    """Change an inner node of the tree."""
    return Statement("touch node", f"UPDATE archive_node SET own = own + 1 WHERE id = {writer.seeded(NODE)}")


def move_node(writer: Writer) -> Statement:
    """Hang an inner node of the tree under another one; a smaller key above keeps the tree a tree."""
    key = writer.dice.randint(NODE_ROOTS + 1, NODE.seeded)
    above = writer.dice.randint(1, key - 1)
    return Statement("move node", f"UPDATE archive_node SET parent_id = {above} WHERE id = {key}")


def rows(writer: Writer, table: Table, most: int = 500, lasting: bool = True) -> tuple[list[int], bool]:
    """Return keys to write, and whether in their order: any other order only where no one else writes them."""
    is_shared = not writer.made[table.name] or writer.dice.random() < SHARED
    if is_shared and writer.workload.is_single:
        return writer.several(table, writer.anywhere if lasting else writer.slot, most), True
    keys = writer.own(table, most)
    is_ordered = table.name in writer.workload.written
    return sorted(keys) if is_ordered else keys, is_ordered


def setting(writer: Writer, table: Table, column: str) -> str:
    """Return new values of a column: three of them, spread over the rows."""
    kind, value = table.columns[column]
    values = ", ".join(literal(value(writer)) for _ in range(3))
    return f"(ARRAY[{values}]::{kind}[])[1 + changed.{table.key} % 3]"


def insert_sql(writer: Writer, table: Table, keys: Sequence[int], conflict: str = "") -> str:
    """Return the INSERT of rows with these keys."""
    makers = [value for _, value in table.columns.values()]
    values = ", ".join(f"({', '.join([str(key), *(literal(make(writer)) for make in makers)])})" for key in keys)
    return f"INSERT INTO {table.name} ({', '.join([table.key, *table.columns])}) VALUES {values} {conflict}"


def shuffled_sql(table: Table, keys: Sequence[int], lock: str, action: str) -> str:
    """Return a statement that locks rows in the order of these keys before it writes them."""
    order = f"array_position('{array(keys)}', {table.key}::bigint)"
    chosen = (
        f"SELECT {table.key} AS chosen_key FROM {table.name} WHERE {among(table, keys)} ORDER BY {order} FOR {lock}"
    )
    return f"WITH chosen AS MATERIALIZED ({chosen}) {action} chosen WHERE changed.{table.key} = chosen_key"


def among(table: Table, keys: Sequence[int]) -> str:
    """Return the condition for rows with these keys."""
    return f"{table.key} = ANY ('{array(keys)}')"


def array(keys: Iterable[int]) -> str:
    """Return keys as the text of an array."""
    return "{" + ", ".join(map(str, keys)) + "}"


# Tables -------------------------------------------------------------------------------------------------------------

TEXT = one_of("", "ann", "bob", "cy", "5 long")
NUMBER = maybe(within(-3, 500))
FLAG = one_of(True, False)
DAY = maybe(one_of("2024-02-29", "2025-01-01", "2025-06-30", "2025-12-31"))
MOMENT = maybe(one_of("2024-12-31 23:30:00+00", "2025-06-01 10:00:00+00", "2025-10-01 10:00:00+00"))
NODE_ROOTS = 5


def own_tag(writer: Writer) -> int:
    """Return a tag that no other writer links, so that no two writers insert the same pair."""
    return 1 + writer.number + writer.writers * writer.dice.randrange(TAG.seeded // writer.writers)


def subject_type(writer: Writer) -> int:
    """Return the content type of works, or of people."""
    return writer.types[writer.dice.choice(("work", "person"))]


PUBLISHER = Table("archive_publisher", {"name": ("text", TEXT)}, seeded=300, slots=40, key="number")
PERSON = Table("archive_person", {"name": ("text", TEXT)}, seeded=400)
TAG = Table("archive_tag", {"weight": ("integer", NUMBER), "active": ("boolean", FLAG)}, seeded=64, slots=8)
WORK = Table(
    "archive_work",
    {
        "publisher_id": ("integer", maybe(row_of(PUBLISHER))),
        "editor_id": ("bigint", row_of(PERSON)),
        "title": ("text", TEXT),
        "pages": ("integer", NUMBER),
        "published": ("boolean", FLAG),
        "day": ("date", DAY),
    },
    seeded=400,
    slots=40,
)
REVIEW = Table(
    "archive_review",
    {
        "work_id": ("bigint", row_of(WORK)),
        "author_id": ("bigint", row_of(PERSON)),
        "stars": ("integer", within(0, 5)),
        "created": ("timestamptz", MOMENT),
    },
    slots=500,
)
LINK = Table("archive_work_tags", {"work_id": ("bigint", row_of(WORK)), "tag_id": ("bigint", own_tag)}, slots=1_000)
CREDIT = Table(
    "archive_credit",
    {
        "person_id": ("bigint", row_of(PERSON)),
        "work_id": ("bigint", row_of(WORK)),
        "share": ("integer", within(0, 9)),
    },
    slots=500,
)
NOTE = Table(
    "archive_note",
    {
        "content_type_id": ("integer", subject_type),
        "object_id": ("integer", row_of(WORK)),
        "weight": ("integer", within(0, 9)),
    },
    slots=500,
)
EARLY_NOTE = NOTE.having(object_id=slot_of(WORK))
NODE: Table = Table(
    "archive_node",
    {"parent_id": ("bigint", lambda writer: writer.seeded(NODE)), "own": ("integer", within(-2, 5))},
    seeded=60,
)
SEED = f"""
INSERT INTO archive_country (code, rank) SELECT 'c' || n, n FROM generate_series(1, 10) AS n;
INSERT INTO archive_publisher (id, number, country_id)
    SELECT lpad(n::text, 32, '0')::uuid, n, 'c' || 1 + n % 10 FROM generate_series(1, {PUBLISHER.seeded}) AS n;
INSERT INTO archive_person (id) SELECT generate_series(1, {PERSON.seeded});
INSERT INTO archive_tag (id, weight) SELECT n, n FROM generate_series(1, {TAG.seeded + TAG.slots}) AS n;
INSERT INTO archive_work (id, publisher_id, editor_id, pages, published, day)
    SELECT n, 1 + n % {PUBLISHER.seeded}, 1 + n % {PERSON.seeded}, n, n % 2 = 0, date '2025-01-01' + n
    FROM generate_series(1, {WORK.seeded}) AS n;
INSERT INTO archive_review (id, work_id, author_id, stars)
    SELECT n, 1 + n % {WORK.seeded}, 1 + n % {PERSON.seeded}, n % 6 FROM generate_series(1, {REVIEW.slots}) AS n;
INSERT INTO archive_work_tags (id, work_id, tag_id)
    SELECT n, 1 + n % {WORK.seeded}, {TAG.seeded} + 1 + n % {TAG.slots} FROM generate_series(1, {LINK.slots}) AS n
    ON CONFLICT DO NOTHING;
INSERT INTO archive_credit (id, person_id, work_id)
    SELECT n, 1 + n % {PERSON.seeded}, 1 + n % {WORK.seeded} FROM generate_series(1, {CREDIT.slots}) AS n;
INSERT INTO archive_note (id, content_type_id, object_id)
    SELECT n, type.id, 1 + n % {WORK.seeded} FROM generate_series(1, {NOTE.slots}) AS n, django_content_type AS type
    WHERE app_label = 'archive' AND model = 'work';
INSERT INTO archive_node (id, parent_id)
    SELECT n, CASE WHEN n > {NODE_ROOTS} THEN 1 + n / 3 END FROM generate_series(1, {NODE.seeded}) AS n;
"""


def all_rules(keep: Keep) -> dict[str, Rules]:
    """Return rules by name; those of one workload fill different columns. Django must be set up."""
    from django.contrib.postgres.aggregates import BoolOr
    from django.db.models import Count, F, Max, Q, Sum

    from tests.archive.models import Country, Node, Person, Publisher, Review, Work
    from trigger_kit import Exists

    published = Q(works__published=True)
    return {
        "delta": [(Publisher, [keep("the_count", Count("works"))])],
        "delta, more": [(Publisher, [keep("the_total", Sum("works__pages", default=0))])],
        "extremum": [(Publisher, [keep("kept_day", Max("works__day"))])],
        "recompute": [(Publisher, [keep("kept_flag", BoolOr("works__published"))])],
        "hops": [
            (Publisher, [
                keep("kept_number", Count("works__reviews", filter=published)),
                keep("kept_amount", Sum("works__reviews__stars")),
                keep("kept_moment", Max("works__reviews__created")),
                keep("the_flag", Exists("works__reviews", filter=Q(works__reviews__stars=5))),
            ]),
        ],
        "hops, deltas": [
            (Publisher, [
                keep("kept_number", Count("works__reviews", filter=published)),
                keep("kept_amount", Sum("works__reviews__stars", default=0)),
            ]),
        ],
        "far side, deltas": [
            (Work, [keep("the_count", Count("tags", filter=Q(tags__active=True)))]),
            (Person, [keep("the_count", Count("works", filter=published))]),
        ],
        "rule over rule": [(Country, [keep("the_total", Sum("publishers__the_count", default=0))])],
        "far side": [
            (Work, [
                keep("the_count", Count("tags", filter=Q(tags__active=True))),
                keep("kept_number", Max("tags__weight")),
            ]),
            (Person, [keep("the_count", Count("works", filter=published))]),
        ],
        "notes": [
            (Work, [keep("the_total", Sum("notes__weight", default=0)), keep("the_flag", Exists("notes"))]),
            (Person, [keep("kept_number", Count("notes")), keep("kept_amount", Sum("notes__weight"))]),
        ],
        "copy": [(Work, [keep("kept_text", F("publisher__name"))])],
        "copy of both": [
            (Review, [keep("kept_text", F("work__publisher__name")), keep("kept_number", F("work__pages"))]),
        ],
        "rollup": [(Node, [keep("the_total", F("own") + Sum("children__the_total", default=0))])],
        "diamond": [
            (Work, [keep("the_count", Count("reviews"))]),
            (Person, [keep("the_count", Count("reviews"))]),
            (Publisher, [
                keep("the_total", Sum("works__the_count", default=0)),
                keep("kept_number", Sum("works__editor__the_count")),
            ]),
        ],
    }  # fmt: skip


# Workloads ----------------------------------------------------------------------------------------------------------

EDGE = (
    insert(WORK), insert(WORK), upsert(WORK), delete(WORK), change(WORK, "publisher_id"),
    change(WORK, "pages", "published", "day"), change(PUBLISHER, "name", most=20),
)  # fmt: skip
HOPS = (
    insert(REVIEW), insert(REVIEW), upsert(REVIEW), delete(REVIEW), change(REVIEW, "work_id", "stars", "created"),
    change(WORK, "publisher_id"), change(WORK, "published", "title"), insert(WORK),
)  # fmt: skip
TAGS = (
    insert(LINK, "ON CONFLICT DO NOTHING"), link, delete(LINK), change(TAG, "active", "weight", most=5),
    insert(CREDIT), delete(CREDIT), change(CREDIT, "work_id", "person_id"), change(WORK, "published", "title"),
)  # fmt: skip
NOTES = (insert(NOTE), insert(NOTE), upsert(NOTE), delete(NOTE), change(NOTE, *NOTE.columns), change(WORK, "title"))
COPIES = (
    insert(WORK), change(WORK, "pages", "title"), delete(WORK), insert(REVIEW), change(REVIEW, "stars"), delete(REVIEW),
    change(PUBLISHER, "name", most=1),
)  # fmt: skip
MOVES = (*COPIES, upsert(WORK, lasting=False), change(WORK, "publisher_id"), change(REVIEW, "work_id"),
         change(PUBLISHER, "name", most=20))  # fmt: skip
UPSERTS = (*EDGE, upsert(WORK, is_mixed=True), upsert(WORK, is_mixed=True))
TREE = (insert(NODE), insert(NODE), change(NODE, "own", lasting=False), delete(NODE), touch_node)
TREE_MOVES = (*TREE, upsert(NODE, lasting=False), change(NODE, "parent_id", "own", lasting=False), move_node)
ARRIVALS = (arrive(WORK, "publisher_id", PUBLISHER), arrive(WORK, "publisher_id", PUBLISHER), come(PUBLISHER),
            go(PUBLISHER), clear(WORK, "publisher_id", PUBLISHER), pause, pause)  # fmt: skip
EARLY_NOTES = (insert(EARLY_NOTE), insert(EARLY_NOTE), change(EARLY_NOTE, "object_id", "weight"), delete(EARLY_NOTE),
               come(WORK), come(WORK), go(WORK))  # fmt: skip
MIXED = EDGE + HOPS + TAGS + NOTES
BELOW = frozenset({"archive_work", "archive_review"})
MIDDLE = frozenset({"archive_work", "archive_person"})

ONE_EDGE = ("delta", "delta, more", "extremum", "recompute")
DELTAS = ("delta", "delta, more")
MIXED_RULES = (*ONE_EDGE, "hops", "far side", "notes")
WORKLOADS = (
    Workload("one edge", ONE_EDGE, EDGE),
    Workload("several hops", ("hops",), HOPS),
    Workload("rule over rule", ("delta", "rule over rule"), EDGE),
    Workload("many-to-many, filtered", ("far side",), TAGS, written=MIDDLE),
    Workload("copies", ("copy", "copy of both"), COPIES, written=BELOW),
    Workload("tree rollup", ("rollup",), TREE),
    Workload("generic relation", ("notes",), NOTES, written=MIDDLE),
    Workload("generic, parents come and go", ("notes",), EARLY_NOTES, written=MIDDLE),
    Workload("one edge, several statements", ONE_EDGE, EDGE, is_single=False),
    Workload("foreign key, parents come and go", ONE_EDGE, ARRIVALS, is_single=False),
    Workload("one edge", ONE_EDGE, EDGE, timing="DEFERRED", is_single=False),
    Workload("rule over rule", ("delta", "rule over rule"), EDGE, timing="DEFERRED", is_single=False),
    Workload("several hops", ("hops",), HOPS, timing="DEFERRED"),
    Workload("many-to-many, filtered", ("far side",), TAGS, timing="DEFERRED", written=MIDDLE),
    Workload("one edge", DELTAS, EDGE, timing="QUEUED", is_single=False),
    Workload("several hops", ("hops, deltas",), HOPS, timing="QUEUED"),
    Workload("many-to-many, filtered", ("far side, deltas",), TAGS, timing="QUEUED", written=MIDDLE),
    Workload("mixed", MIXED_RULES, MIXED, isolation="REPEATABLE READ", written=MIDDLE),
    Workload("mixed", MIXED_RULES, MIXED, isolation="SERIALIZABLE", written=MIDDLE),
    # The two classes of docs/concurrency.md.
    Workload("delta against copy", ("delta", "copy"), COPIES, written=BELOW, is_inherent=True),
    Workload("diamond of rules", ("diamond",), HOPS, is_inherent=True),
    # Two more that the soak has found, shown apart for the same reason: a statement writes its own table first. Here it
    # holds children when it asks for their new parent, while the parent's fan-out asks for the children.
    Workload("copies, children moved", ("copy", "copy of both"), MOVES, written=BELOW, is_inherent=True),
    # A node that moves is held when its new ancestors are asked for; one of them may climb towards it.
    Workload("tree rollup, nodes moved", ("rollup",), TREE_MOVES, is_inherent=True),
    # Writers who write targets themselves, statement by statement, hold their locks in any order.
    Workload("parents come and go", ONE_EDGE, ARRIVALS, timing="DEFERRED", is_single=False, is_inherent=True),
    Workload("parents come and go", DELTAS, ARRIVALS, timing="QUEUED", is_single=False, is_inherent=True),
    # And here it has two events, the second of which locks targets after those of the first.
    Workload("upserts of old and new rows", ONE_EDGE, UPSERTS, is_inherent=True),
)
