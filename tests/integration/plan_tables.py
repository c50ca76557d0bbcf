"""The tables that plans are tried on: some thousand rows each, in small groups, and the changes that tests make."""

from __future__ import annotations

from dataclasses import dataclass

# Parents without a row that rows refer to, and tests insert.
SPARE = 6_000


@dataclass(frozen=True)
class Table:
    """The rows 1 … ``size`` of a table: its columns as SQL of ``n``, and the named changes that a test makes.

    ``key`` is the column that rows are found by, ``key_of`` its value as SQL of a number.
    """

    name: str
    size: int
    columns: dict[str, str]
    changes: dict[str, str]
    key: str = "id"
    key_of: str = "{}"
    # Rows in front of those that are changed: a tree's roots would show one direction only.
    before: int = 0

    def insert(self, first: int, last: int) -> str:
        """Return the INSERT of the rows from ``first`` to ``last``."""
        names, values = ", ".join(self.columns), ", ".join(self.columns.values())
        return f"INSERT INTO {self.name} ({names}) SELECT {values} FROM generate_series({first}, {last}) AS n"

    def change(self, name: str, first: int, last: int) -> str:
        """Return the statement about the rows from ``first`` to ``last``; those of an INSERT are numbered on."""
        if name == "insert":
            return self.insert(self.size + first, self.size + last)
        ends = (self.key_of.format(self.before + n) for n in (first, last))
        which = f"WHERE {self.key} BETWEEN {' AND '.join(ends)}"
        if name == "delete":
            return f"DELETE FROM {self.name} {which}"
        return f"UPDATE {self.name} SET {self.changes[name]} {which}"


def one_of(size: int, n: str = "n") -> str:
    """Return the number of a parent; some of the parents do not exist yet, and are inserted by tests."""
    return f"1 + ({n}) % {size + SPARE}"


CODE = "to_char({}, 'FM\"c\"0000000')"
IS_WORK = "n % 2 = 0"
TYPE_OF = "(SELECT id FROM django_content_type WHERE app_label = 'archive' AND model = {})"

TABLES = {
    table.name.removeprefix("archive_"): table
    for table in (
        Table(
            "archive_country",
            4_000,
            {"code": CODE.format("n"), "name": "'c' || n % 50", "rank": "n % 10"},
            {"value": "name = name || 'x', rank = rank + 1"},
            "code",
            CODE,
        ),
        Table(
            "archive_publisher",
            8_000,
            {
                "number": "n",
                "id": "gen_random_uuid()",
                "country_id": CODE.format(one_of(4_000)),
                "name": "'p' || n % 50",
                "fee": "n % 90",
            },
            {
                "value": "name = name || 'x', fee = fee + 1",
                "move": f"country_id = {CODE.format(one_of(4_000, 'number + 700'))}",
                "rekey": "number = number + 1000000",
            },
            "number",
        ),
        Table("archive_series", 4_000, {"id": "n", "name": "'s' || n"}, {"value": "name = name || 'x'"}),
        Table(
            "archive_person",
            8_000,
            {"id": "n", "name": "CASE n % 3 WHEN 0 THEN 'ann' ELSE 'bob' END"},
            {"value": "name = CASE name WHEN 'ann' THEN 'bob' ELSE 'ann' END"},
        ),
        Table(
            "archive_tag",
            4_000,
            {"id": "n", "name": "'t' || n % 90", "weight": "n % 30", "active": "n % 3 > 0"},
            {"value": "name = name || 'x', weight = weight + 1, active = NOT active"},
        ),
        Table(
            "archive_work",
            20_000,
            {
                "id": "n",
                "publisher_id": one_of(8_000),
                "editor_id": one_of(8_000),
                "title": "'w' || n % 90",
                "pages": "n % 400",
                "price": "n % 50",
                "published": "n % 3 > 0",
            },
            {
                "value": "title = title || 'x', pages = pages + 1, price = price + 1, published = NOT published",
                "lower": "title = '', pages = -1, price = -1",
                "move": f"publisher_id = {one_of(8_000, 'id + 700')}",
            },
        ),
        Table(
            "archive_novel",
            20_000,
            {"work_ptr_id": "n", "series_id": one_of(4_000), "words": "n % 900", "genre": "'g' || n % 9"},
            {"value": "words = words + 1", "move": f"series_id = {one_of(4_000, 'work_ptr_id + 700')}"},
            "work_ptr_id",
        ),
        Table(
            "archive_work_tags",
            40_000,
            {"id": "n", "work_id": one_of(20_000), "tag_id": one_of(4_000, "n + n / 20000")},
            {"move": f"tag_id = {one_of(4_000, 'tag_id + 700')}"},
        ),
        Table(
            "archive_credit",
            40_000,
            {"id": "n", "person_id": one_of(8_000), "work_id": one_of(20_000), "share": "n % 9"},
            {"value": "share = share + 1", "move": f"person_id = {one_of(8_000, 'id + 700')}"},
        ),
        Table(
            "archive_review",
            40_000,
            {
                "id": "n",
                "work_id": one_of(20_000),
                "author_id": one_of(8_000),
                "stars": "n % 5",
                "text": "'r' || n",
                "created": "timestamptz '2024-01-01' + make_interval(secs => n)",
            },
            {
                "value": "stars = stars + 1, text = 'long', created = created + interval '1 year'",
                "lower": "stars = -1, created = created - interval '1 year'",
                "move": f"work_id = {one_of(20_000, 'id + 700')}",
            },
        ),
        Table(
            "archive_note",
            40_000,
            {
                "id": "n",
                "content_type_id": f"CASE WHEN {IS_WORK} THEN {TYPE_OF.format(repr('work'))} "
                f"ELSE {TYPE_OF.format(repr('person'))} END",
                "object_id": f"CASE WHEN {IS_WORK} THEN {one_of(20_000, 'n / 2')} ELSE {one_of(8_000, 'n / 2')} END",
                "author_id": one_of(8_000),
                "weight": "n % 9",
            },
            {"value": "weight = weight + 1", "move": f"object_id = {one_of(8_000, 'id / 2 + 700')}"},
        ),
        Table(
            "archive_line",
            20_000,
            {"work_id": "n", "number": "1", "text": "'l' || n % 90"},
            {"value": "text = text || 'x'"},
            "work_id",
        ),
        Table(
            "archive_remark",
            40_000,
            {"id": "n", "line_work": one_of(20_000), "line_number": "1", "weight": "n % 9", "text": "'k' || n % 90"},
            {"value": "weight = weight + 1", "move": f"line_work = {one_of(20_000, 'id + 700')}"},
        ),
        Table(
            "archive_person_follows",
            20_000,
            {"id": "n", "from_person_id": one_of(8_000), "to_person_id": one_of(8_000, "n + 5 + n / 8000")},
            {"move": f"to_person_id = {one_of(8_000, 'to_person_id + 700')}"},
        ),
        Table(
            "archive_node",
            20_000,
            {
                "id": "n",
                "parent_id": "CASE WHEN n > 12000 THEN n - 8000 WHEN n > 4000 THEN (n - 3999) / 2 END",
                "name": "'n' || n % 90",
                "own": "n % 9",
            },
            {"value": "own = own + 1, name = name || 'x'", "move": "parent_id = 2001 + id % 1500"},
            before=4_000,
        ),
    )
}
