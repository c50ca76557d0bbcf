"""COMPILE paths and keys: from a changed row back to its targets, and arrays of target keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trigger_kit.resolve.columns import Column, Path, key_type
from trigger_kit.sql.django import content_type_sql, far_sql, hop_condition
from trigger_kit.sql.text import block, closed, quote, table_placeholder

__all__ = [
    "Key",
    "among",
    "by_index",
    "far_rows",
    "first_hop_conditions",
    "key_columns",
    "numbered",
    "row_name",
    "walk",
]


@dataclass(frozen=True)
class Key:
    """The columns of a target that an edge finds it by, and the names of their values in a function.

    A key of one column is ``tk_key`` and its array ``tk_keys``; those of several are numbered. ``name`` is the first
    part of these names.
    """

    columns: tuple[Column, ...]
    name: str = "tk_key"

    @property
    def names(self) -> list[str]:
        """The names of a key's values."""
        return self._numbered(self.name)

    @property
    def arrays(self) -> list[str]:
        """The names of the arrays of many keys."""
        return self._numbered(f"{self.name}s")

    def _numbered(self, name: str) -> list[str]:
        if len(self.columns) == 1:
            return [name]
        return [f"{name}_{number}" for number in range(1, len(self.columns) + 1)]

    def declarations(self) -> list[str]:
        """Return the declarations of the arrays."""
        return [f"{name} {kind};" for name, kind in zip(self.arrays, self.array_types(), strict=True)]

    def array_types(self) -> list[str]:
        """Return the types of the arrays."""
        return [f"{key_type(column)}[]" for column in self.columns]

    def of(self, row: str) -> list[str]:
        """Return the key's columns of a row."""
        return [f"{row}.{quote(column.name)}" for column in self.columns]

    def matches(self, row: str, other: str) -> str:
        """Return the condition under which a target row has the key that another row names."""
        pairs = zip(self.of(row), self.names, strict=True)
        return " AND ".join(f"{column} = {other}.{name}" for column, name in pairs)

    def is_among(self, row: str) -> str:
        """Return the condition under which a target row's key is in the arrays."""
        if len(self.columns) == 1:
            return f"{self.of(row)[0]} = ANY ({self.arrays[0]})"
        return f"({', '.join(self.of(row))}) IN (SELECT * FROM unnest({', '.join(self.arrays)}))"

    def present(self, row: str) -> str:
        """Return the condition under which all values of a key are there."""
        return " AND ".join(f"{row}.{name} IS NOT NULL" for name in self.names)


def row_name(path: Path, level: int) -> str:
    """Return the name of the row that a hop of a path leads to; levels count from 1."""
    return "source" if len(path) == 1 else f"hop_{level}"


def key_columns(path: Path) -> list[str]:
    """Return the values of the target's key, read from the row of the first hop."""
    return far_sql(path[0], row_name(path, 1))


def walk(path: Path, level: int, rows: str) -> str:
    """Return the FROM item that joins changed rows of one level to the rows of all others as they are now.

    ``rows`` is the FROM item of the changed rows, without its alias. Where the first hop is a generic relation, only
    rows of its content type are meant: see ``first_hop_conditions``.
    """
    items = [f"{rows} AS {row_name(path, level)}"]
    for nearer in range(level - 1, 0, -1):
        condition = hop_condition(path[nearer], row_name(path, nearer), row_name(path, nearer + 1))
        items.append(by_index(path, nearer, row_name(path, nearer), condition, is_near=True))
    return "\n".join([*items, *_onward(path, level, by_index)])


def _onward(path: Path, level: int, join: Callable[..., str]) -> list[str]:
    """Return the joins of the levels behind one."""
    return [
        join(
            path,
            farther,
            row_name(path, farther),
            hop_condition(path[farther - 1], row_name(path, farther - 1), row_name(path, farther)),
        )
        for farther in range(level + 1, len(path) + 1)
    ]


def plain_join(path: Path, level: int, name: str, condition: str) -> str:
    """Return the JOIN of a level's table under a name, for PostgreSQL to plan by its statistics."""
    return f"JOIN {table_placeholder(path[level - 1].table)} AS {name}\n    ON {condition}"


def by_index(path: Path, level: int, name: str, condition: str, *, is_near: bool = False) -> str:
    """Return the JOIN of a level's table to changed rows: by its index, however many there are.

    PostgreSQL plans a statement once in a session, and takes the number of changed rows from the statement that comes
    first. After a bulk INSERT it would read the whole table for a single row. ``is_near`` says that the hop to the next
    level leads there; without an index the plan is left to PostgreSQL.
    """
    is_indexed = path[level].near_is_indexed if is_near else path[level - 1].far_is_indexed
    if not is_indexed:
        return plain_join(path, level, name, condition)
    table = table_placeholder(path[level - 1].table)
    rows = closed(f"SELECT * FROM {table} AS {name}", f"WHERE {condition}", "OFFSET 0")
    return f"JOIN LATERAL {rows} AS {name} ON true"


def first_hop_conditions(path: Path) -> list[str]:
    """Return what the rows of the first hop must fulfil to have a target at all."""
    condition = content_type_sql(path[0], row_name(path, 1))
    return [condition] if condition else []


def far_rows(path: Path, row: str, required: int | None = None) -> tuple[str, str]:
    """Return the FROM item of all rows along a path, and the condition that ties them to a target's row.

    Rows behind the first ``required`` hops may be missing.
    """
    joins = _onward(path, 1, plain_join)
    inner = len(path) if required is None else required
    optional = [f"LEFT {join}" for join in joins[inner - 1 :]]
    first = f"{table_placeholder(path[0].table)} AS {row_name(path, 1)}"
    rows = "\n".join([first, *joins[: inner - 1], *optional])
    return rows, hop_condition(path[0], row, row_name(path, 1))


def among(columns: Sequence[str], values: Sequence[str], rows: str) -> str:
    """Return the condition under which columns are among the values of changed rows; ``rows`` is their FROM item.

    Arrays, of which PostgreSQL expects few values: it finds the rows by their index, see ``by_index``.
    """
    arrays = [f"ARRAY(\n    SELECT {value}\n{block(f'FROM {rows}')}\n)" for value in values]
    if len(columns) == 1:
        return f"{columns[0]} = ANY ({arrays[0]})"
    pairs = f"SELECT * FROM unnest({', '.join(arrays)})"
    return f"({', '.join(columns)}) IN (\n{block(pairs)}\n)"


def numbered(names: Iterable[str], values: Iterable[str]) -> str:
    """Return a select list that gives values their names."""
    return ",\n".join(f"{value} AS {name}" for name, value in zip(names, values, strict=True))
