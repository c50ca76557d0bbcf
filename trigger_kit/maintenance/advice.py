"""OBSERVE: the indexes that rules want, those that make their writes dearer, and room for HOT updates.

Advised is what the compiled SQL makes use of and what was measured to pay: see docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

from django.db.models import F, Index, Max, Min, Model, OrderBy, Q
from django.db.models.aggregates import Aggregate
from django.db.models.expressions import Col, OrderByList
from django.db.models.lookups import BuiltinLookup
from django.db.models.sql import AND, OR, Query
from django.db.models.sql.where import WhereNode

from trigger_kit.database.indexes import KeyColumn, TableIndex, UpdateCounts
from trigger_kit.expressions import Exists, First
from trigger_kit.notation import describe
from trigger_kit.plan.aggregates import PathAggregate
from trigger_kit.plan.kept_columns import KeptAggregate, KeptColumn, Strategy
from trigger_kit.plan.plan import Plan
from trigger_kit.resolve.columns import Path, column_of, offline_connection
from trigger_kit.resolve.sources import children, nodes
from trigger_kit.sql.text import short_digest

__all__ = [
    "FILLFACTOR",
    "WantedIndex",
    "hindering_indexes",
    "is_short_of_room",
    "make_room",
    "takes_one_row",
    "wanted_indexes",
]

# A statement that changes every row of a page finds room for the new versions beside the old ones.
FILLFACTOR = 50
# Of so many updates at least, this share went to other pages, before room is advised.
ENOUGH_UPDATES = 1_000
MANY_MOVED = 0.2
# No entry of a B-tree may be longer than about this; a character has up to four bytes.
MOST_BYTES = 2_700
LONGEST_TEXT = 600
_UNBOUNDED = {"bytea", "hstore", "json", "jsonb", "text", "varchar", "xml"}
NAME_LENGTH = 30  # Django's own limit.


@dataclass(frozen=True, eq=False)
class WantedIndex:
    """An index that the SQL of a rule makes use of.

    It finds rows by ``equal`` columns, takes them in the ``order`` of others, and holds what else is read. ``gain``
    says what happens without it. An extremum is found from either end of its order. Of an order, the last ``ties``
    columns may be left out, as few rows need to be sorted by them.
    """

    model: type[Model]
    equal: tuple[str, ...]
    gain: str
    order: tuple[KeyColumn, ...] = ()
    included: tuple[str, ...] = ()
    condition: Q | None = None
    has_two_ends: bool = False
    ties: int = 0

    @property
    def words(self) -> str:
        """The index as PostgreSQL would have it: ``library_book (author_id, day DESC) where …``."""
        keys = [*self.equal, *(f"{key.name}{' DESC' if key.is_descending else ''}" for key in self.order)]
        include = f" INCLUDE ({', '.join(self.included)})" if self.included else ""
        where = f" where {describe(self.condition)}" if self.condition else ""
        return f"{self.model._meta.db_table} ({', '.join(keys)}){include}{where}"

    def build(self) -> Index:
        """Return the index for Django."""
        if self._has_usual_nulls:
            return Index(fields=self._fields, **self._options)
        orders = [_ordered(F(_field_name(self.model, key.name)), key) for key in self.order]
        return Index(*self._equal, *orders, **self._options)

    @property
    def code(self) -> str:
        """The index for a model's ``Meta.indexes``, as text."""
        options = {"fields": self._fields} if self._has_usual_nulls else {}
        parts = [f"{name}={_as_text(value)}" for name, value in {**options, **self._options}.items()]
        if not self._has_usual_nulls:
            orders = [f'F("{_field_name(self.model, key.name)}").{_direction(key)}' for key in self.order]
            parts = [*map(_as_text, self._equal), *orders, *parts]
        return f"models.Index({', '.join(parts)})"

    @property
    def _equal(self) -> list[str]:
        return [_field_name(self.model, name) for name in self.equal]

    @property
    def _fields(self) -> list[str]:
        order = [f"{'-' if key.is_descending else ''}{_field_name(self.model, key.name)}" for key in self.order]
        return [*self._equal, *order]

    @property
    def _options(self) -> dict[str, Any]:
        included = [_field_name(self.model, name) for name in self.included]
        given = {"name": self.name, "condition": self.condition, "include": included}
        return {name: value for name, value in given.items() if value}

    @property
    def _has_usual_nulls(self) -> bool:
        """Whether NULLs are where PostgreSQL puts them, so that names alone say the order."""
        return all(key.nulls_first == key.is_descending for key in self.order)

    @property
    def name(self) -> str:
        """A name for the index, within Django's limit; two indexes that differ in their conditions differ in it."""
        words = [self.model.__name__, *self.equal, *(key.name for key in self.order), *self.included]
        name = "_".join(words).lower().strip("_")
        room = NAME_LENGTH - len("_idx")
        if self.condition is not None or len(name) > room:
            name = f"{name[: room - 7].rstrip('_')}_{short_digest(self.words)}"
        return f"{name}_idx"

    def is_served_by(self, index: TableIndex) -> bool:
        """Whether an index does what this one would do."""
        count = len(self.equal)
        if index.method != "btree" or {key.name for key in index.keys[:count]} != set(self.equal):
            return False
        if index.is_partial and (self.condition is None or not self._conditioned <= index.reads):
            return False
        if self.condition is not None and not index.is_partial:
            return False
        held = {*(key.name for key in index.keys), *index.included}
        return self._is_in_order(index.keys[count:]) and set(self.included) <= held

    @property
    def _conditioned(self) -> set[str]:
        names = self.condition.referenced_base_fields if self.condition else set()
        return {str(self.model._meta.get_field(name).column) for name in names}  # type: ignore[union-attr]

    def _is_in_order(self, keys: tuple[KeyColumn, ...]) -> bool:
        """Whether an index is sorted as this one, forwards or backwards."""
        order = self.order[: len(self.order) - self.ties]
        keys = keys[: len(order)]
        if self.has_two_ends:
            return [key.name for key in keys] == [key.name for key in order]
        back = tuple(KeyColumn(key.name, not key.is_descending, not key.nulls_first) for key in order)
        return keys in {order, back}


# Wanted -------------------------------------------------------------------------------------------------------------


def wanted_indexes(kept: KeptColumn) -> list[WantedIndex]:
    """Return the indexes that the SQL of a rule makes use of: those that find rows first."""
    wanted: dict[tuple[str, tuple[str, ...]], WantedIndex] = {}
    for source in kept.resolved.sources:
        for place, hop in enumerate(source.path):
            kind = hop.far_names[len(hop.far) :]
            sides = [
                (source.path[: place + 1], hop.far_is_unique, (*kind, *(column.name for column in hop.far))),
                (source.path[:place], hop.near_is_unique, tuple(hop.near_names)),
            ]
            for path, is_unique, columns in sides:
                model = _model_at(kept, path)
                if not is_unique:
                    gain = "without it, every look-up reads the whole table"
                    wanted.setdefault((model._meta.db_table, columns), WantedIndex(model, columns, gain))
    return [*wanted.values(), *_of_group(kept)]


def _model_at(kept: KeptColumn, path: Path) -> type[Model]:
    """Return the model of the rows at the end of a path from the target."""
    return next((source.model for source in kept.resolved.sources if source.path == path), kept.resolved.model)


def _of_group(kept: KeptColumn) -> Iterator[WantedIndex]:
    """Yield the index by which a value needs less than all rows of its group, or not the rows themselves."""
    path = _first_hop(kept)
    if not path:
        return
    model, hop = _model_at(kept, path), path[0]
    equal = (*hop.far_names[len(hop.far) :], *(column.name for column in hop.far))
    if isinstance(kept, KeptAggregate) and (takes_one_row(kept.aggregate) or (kept.null_when_empty and kept.is_sum)):
        aggregate = kept.aggregate
        order = _order(aggregate) if takes_one_row(aggregate) else ()
        condition = _as_q(aggregate.condition, aggregate.aliases[0])
        if order or condition is not None:
            needless = "the whole group is read where one row would do"
            if condition is not None:
                needless = "rows that the filter leaves out are read as well; it pays where they are many"
            gain = f"without it, {needless}{_limit(model, order)}"
            has_two_ends = aggregate.function in {Max, Min}
            ties = 1 if len(order) > 1 else 0  # The key of a First.
            yield WantedIndex(model, equal, gain, order, (), condition, has_two_ends, ties)
    elif kept.strategy is Strategy.RECOMPUTE and len(kept.resolved.sources) == 2:
        yield from _covering(kept, model, equal)


def _first_hop(kept: KeptColumn) -> Path:
    """Return the path to the group that a value is read from: many rows, with at most one behind each."""
    paths = [source.path for source in kept.resolved.sources if source.path]
    first = {path[:1] for path in paths}
    is_one_group = len(first) == 1 and all(hop.far_is_unique for path in paths for hop in path[1:])
    path = first.pop() if is_one_group else ()
    return () if not path or path[0].far_is_unique or kept.resolved.is_recursive else path


def takes_one_row(aggregate: PathAggregate) -> bool:
    """Whether an index can find the one row that the value comes from."""
    if aggregate.function is Exists:
        return True
    compared = [getattr(item, "expression", item) for item in aggregate.order or [aggregate.argument]]
    is_near = all(isinstance(node, Col) and node.alias == aggregate.aliases[0] for node in compared)
    return aggregate.function in {First, Max, Min} and is_near and all(hop.far_is_unique for hop in aggregate.path[1:])


def _order(aggregate: PathAggregate) -> tuple[KeyColumn, ...]:
    """Return the columns that a look-up takes the first row by."""
    if aggregate.function in {Max, Min}:
        return (KeyColumn(str(aggregate.argument.target.column)),)
    return _sorted_by(aggregate.order) if aggregate.function is First else ()


def _sorted_by(orders: Iterable[OrderBy]) -> tuple[KeyColumn, ...]:
    """Return the columns of an order, each once: where it comes again, it decides nothing."""
    keys: dict[str, KeyColumn] = {}
    for order in orders:
        column: Any = order.expression
        name = str(column.target.column)
        first = True if order.nulls_first else False if order.nulls_last else None
        keys.setdefault(name, KeyColumn.sorted_by(name, is_descending=order.descending, nulls_first=first))
    return tuple(keys.values())


def _covering(kept: KeptColumn, model: type[Model], equal: tuple[str, ...]) -> Iterator[WantedIndex]:
    """Yield the index that holds all that an aggregate reads, in its order, where all of it is short."""
    found = list(nodes(kept.resolved.expression))
    (read,) = (source.columns for source in kept.resolved.sources if source.path)
    is_plain = sum(isinstance(node, Aggregate) for node in found) == 1 and not any(isinstance(n, Query) for n in found)
    if not is_plain or not all(_is_short(model, name) for name in read):
        return
    listed = [item for node in found if isinstance(node, OrderByList) for item in children(node)]
    orders = [item if isinstance(item, OrderBy) else OrderBy(item) for item in listed]
    order = _sorted_by(orders) if all(isinstance(item.expression, Col) for item in orders) else ()
    included = tuple(name for name in read if name not in {*equal, *(key.name for key in order)})
    if order or included:
        gain = "with it, the group is read from the index alone, as far as VACUUM has been there"
        yield WantedIndex(model, equal, gain, order, included)


def _limit(model: type[Model], order: Iterable[KeyColumn]) -> str:
    """Return the warning that a column may have values which an index refuses."""
    long = [key.name for key in order if not _is_short(model, key.name)]
    return (
        f" (with it, PostgreSQL refuses rows whose {', '.join(long)} has more than {MOST_BYTES:,} bytes)"
        if long
        else ""
    )


def _is_short(model: type[Model], name: str) -> bool:
    """Whether every value of a column fits into an entry of a B-tree."""
    field: Any = next(field for field in model._meta.concrete_fields if field.column == name)
    kind = column_of(field).type
    return not kind.endswith("[]") and (kind not in _UNBOUNDED or 0 < (field.max_length or 0) <= LONGEST_TEXT)


# Conditions ---------------------------------------------------------------------------------------------------------


def _as_q(node: Any, alias: str) -> Q | None:
    """Return a filter as a Q over the fields of its own row, or None where it cannot be said so.

    What is left out of a conjunction only makes the condition hold for more rows.
    """
    if isinstance(node, WhereNode) and not node.negated and node.connector in {AND, OR}:
        parts = [_as_q(child, alias) for child in node.children]
        given = [part for part in parts if part is not None]
        if node.connector == AND:
            return reduce(and_, given) if given else None
        return reduce(or_, given) if given and len(given) == len(parts) else None
    if isinstance(node, BuiltinLookup) and isinstance(node.lhs, Col) and node.lhs.alias == alias:
        is_constant = not hasattr(node.rhs, "resolve_expression") and not hasattr(node.rhs, "as_sql")
        suffix = "" if node.lookup_name == "exact" else f"__{node.lookup_name}"
        return Q(**{f"{node.lhs.target.name}{suffix}": node.rhs}) if is_constant else None
    return None


# HOT updates --------------------------------------------------------------------------------------------------------


def hindering_indexes(plan: Plan, indexes: Callable[[type[Model]], list[TableIndex]]) -> list[tuple[str, list[str]]]:
    """Return the indexes of a target that depend on kept columns, with these: writing them is no HOT update."""
    columns = [kept.column for kept in plan.kept_columns]
    found = []
    for index in indexes(plan.model):
        held = [column for column in columns if column in index.reads]
        if held and not index.is_summary:
            found.append((index.name, held))
    return found


def is_short_of_room(counts: UpdateCounts) -> bool:
    """Whether so many updates went to other pages that room on each page would pay.

    Before PostgreSQL 16, updates of indexed columns cannot be told from those that found no room.
    """
    moved = counts.all - counts.hot if counts.moved is None else counts.moved
    return counts.all >= ENOUGH_UPDATES and moved > MANY_MOVED * counts.all and counts.fillfactor > FILLFACTOR


def make_room(plan: Plan) -> str:
    """Return the operation for a migration that leaves room on every page for new versions of its rows."""
    table = offline_connection().ops.quote_name(plan.target)
    change = f"ALTER TABLE {table} SET (fillfactor = {FILLFACTOR})"
    return f"migrations.RunSQL({change!r}, {f'ALTER TABLE {table} RESET (fillfactor)'!r})"


# Words --------------------------------------------------------------------------------------------------------------


def _field_name(model: type[Model], column: str) -> str:
    return next(str(field.name) for field in model._meta.concrete_fields if field.column == column)


def _ordered(field: F, key: KeyColumn) -> OrderBy:
    """Return a column of an index as an expression that says where its NULLs go."""
    return OrderBy(
        field, key.is_descending, nulls_first=key.nulls_first or None, nulls_last=not key.nulls_first or None
    )


def _direction(key: KeyColumn) -> str:
    """Return the call that makes this expression."""
    return f"{'desc' if key.is_descending else 'asc'}({'nulls_first' if key.nulls_first else 'nulls_last'}=True)"


def _as_text(value: Any) -> str:
    """Return an option of an index as its author would write it."""
    return f"[{', '.join(map(_as_text, value))}]" if isinstance(value, (list, tuple)) else describe(value)
