"""The work of the table "writes": statements of one row and of many rows by SQL, and what Django writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import BASE, CONTENDERS, Contender
from benchmarks.contenders.by_hand import ROW
from benchmarks.contenders.computed_fields import COMPUTED
from benchmarks.contenders.ivm import IVM
from benchmarks.contenders.ours import TIMINGS
from benchmarks.contenders.pgtrigger_plain import PGTRIGGER
from benchmarks.contenders.signals import SIGNALS
from benchmarks.ground import Place, authors, books
from benchmarks.measuring import loop
from benchmarks.tables.bench import PARENTS, DjangoJob, Job

# One statement each, with n from 1 on; those that change a book find it by its key.
SINGLES = {
    "single insert": f"INSERT INTO bench_books_book (author_id, pages) VALUES (1 + {{n}} % {PARENTS}, {{n}} % 400)",
    "single update of the summed column": "UPDATE bench_books_book SET pages = pages + 1 WHERE id = {n}",
    "single update of another column": "UPDATE bench_books_book SET note = 'x' WHERE id = {n}",
    "single move to another parent": (
        f"UPDATE bench_books_book SET author_id = 1 + author_id % {PARENTS} WHERE id = {{n}}"
    ),
    "single delete": "DELETE FROM bench_books_book WHERE id = {n}",
}
# In short as well, and once more without the disk.
COMMON = ("single insert", "single update of another column")
ROW_BY_ROW = (ROW.name, PGTRIGGER.name)
IN_PYTHON = (SIGNALS.name, COMPUTED.name)
BY_DJANGO = (BASE, *(contender.name for contender in CONTENDERS))


@dataclass(frozen=True)
class Sizes:
    """How many of everything."""

    single: int
    client: int
    bulk: int
    hot: int
    many_parents: int
    django_bulk: int
    django_single: int


FULL = Sizes(5_000, 2_000, 100_000, 20_000, 10_000, 10_000, 1_000)
SHORT = Sizes(200, 200, 5_000, 1_000, 1_000, 1_000, 50)


def by_sql(sizes: Sizes) -> Iterator[Job]:
    """Yield the work that is written as SQL."""
    yield from single_jobs(sizes)
    yield from bulk_jobs(sizes)
    yield from hot_jobs(sizes)
    yield Job(f"insert {sizes.bulk:,} parents without children", authors(sizes.bulk), authors=0, skipped=side_tables())


def side_tables() -> dict[str, str]:
    """Say who keeps no columns in the table of the parents, and so has nothing to do there."""
    return dict.fromkeys(("denorm", IVM.name), "no column")


def single_jobs(sizes: Sizes) -> Iterator[Job]:
    """Yield statements of one row, in a loop inside the server and one by one from a client."""
    number = sizes.single
    for title, statement in SINGLES.items():
        there = 0 if "insert" in title else number
        inside = loop(number, statement.format(n="n"))
        yield Job(f"{title}, loop in the server", inside, there, per=number, slow=(IVM.name,))
    number = sizes.client
    for title, statement in SINGLES.items():
        there = 0 if "insert" in title else number
        work, common = one_by_one(statement, number), title in COMMON
        options: dict[str, Any] = {"books": there, "per": number, "slow": (IVM.name,)}
        yield Job(f"{title}, from a client", work, **options, in_short=common, waits_for_disk=True)
        if common:
            yield Job(f"{title}, from a client, asynchronous commits", work, **options, in_short=False)


def one_by_one(statement: str, number: int) -> Any:
    """Return what sends a statement so many times, each a transaction and a round trip."""
    text = statement.replace("%", "%%").format(n="%(n)s::bigint").encode()

    def send(place: Place) -> None:
        for n in range(1, number + 1):
            place.link.execute(text, {"n": n})

    return send


def bulk_jobs(sizes: Sizes) -> Iterator[Job]:
    """Yield statements of many rows over many parents."""
    number = sizes.bulk
    yield Job(f"insert {number:,} rows over {PARENTS:,} parents", books(number, PARENTS))
    more = sizes.many_parents
    yield Job(f"insert {number:,} rows over {more:,} parents", books(number, more), authors=more, in_short=False)
    yield Job(
        f"update the summed column of {number:,} rows", "UPDATE bench_books_book SET pages = pages + 1", books=number
    )
    yield Job(
        f"update another column of {number:,} rows",
        "UPDATE bench_books_book SET note = 'x'",
        books=number,
        in_short=False,
    )
    yield Job(f"move {number:,} rows to other parents", move(PARENTS), books=number)
    yield Job(
        f"move {number:,} rows over {more:,} parents",
        move(more),
        books=number,
        parents=more,
        authors=more,
        in_short=False,
    )
    yield Job(f"delete {number:,} rows", "DELETE FROM bench_books_book", books=number)


def move(parents: int) -> str:
    """Return the UPDATE that gives every book the next of so many parents."""
    return f"UPDATE bench_books_book SET author_id = 1 + author_id % {parents}"


def hot_jobs(sizes: Sizes) -> Iterator[Job]:
    """Yield statements of many rows under one parent; what works row by row writes it again and again."""
    number = sizes.hot
    yield Job(f"insert {number:,} rows under one parent", books(number, 1), slow=ROW_BY_ROW)
    for title, statement in (
        (f"move {number:,} rows of one parent to another", move(PARENTS)),
        (f"delete {number:,} rows of one parent", "DELETE FROM bench_books_book"),
    ):
        yield Job(title, statement, number, parents=1, slow=ROW_BY_ROW)


# By Django -----------------------------------------------------------------------------------------------------------


def by_django(sizes: Sizes) -> Iterator[DjangoJob]:
    """Yield the work that Django writes."""
    one, many = sizes.django_single, sizes.django_bulk
    yield DjangoJob(
        f"save() of {one:,} new books", per=one, prepare=new_books(one), by_django=save_all, contenders=BY_DJANGO
    )
    yield DjangoJob(
        f"save() of {one:,} books with other pages",
        books=one,
        per=one,
        prepare=changed_books,
        by_django=save_all,
        contenders=BY_DJANGO,
    )
    yield DjangoJob(
        f"bulk_create() of {many:,} books", prepare=new_books(many), by_django=create_all, contenders=BY_DJANGO
    )
    yield DjangoJob(
        f"bulk_create() of {many:,} books, with what each offers for it",
        prepare=new_books(many),
        by_django=create_in_own_way,
        contenders=own_ways("bulk_create"),
        in_short=False,
    )
    yield DjangoJob(
        f"{many:,} new books: bulk_create(), for signals save()",
        prepare=new_books(many),
        by_django=create_or_save,
        contenders=(BASE, *TIMINGS, SIGNALS.name),
    )
    yield DjangoJob(
        f"queryset.update() of {many:,} books",
        books=many,
        prepare=all_books,
        by_django=update_all,
        contenders=BY_DJANGO,
    )
    yield DjangoJob(
        f"queryset.update() of {many:,} books, with what each offers for it",
        books=many,
        prepare=all_books,
        by_django=update_in_own_way,
        contenders=own_ways("update"),
        in_short=False,
    )
    yield DjangoJob(
        f"queryset.delete() of {one:,} books",
        books=one,
        prepare=all_books,
        by_django=delete_all,
        contenders=BY_DJANGO,
        slow=IN_PYTHON,
    )


def own_ways(name: str) -> tuple[str, ...]:
    """Return who has something of its own to write many rows, beside the base."""
    return (BASE, *(contender.name for contender in CONTENDERS if getattr(contender, name)))


def new_books(number: int) -> Any:
    """Return what makes books that are not saved yet."""

    def make(author: Any, book: Any) -> list[Any]:
        return [book(author_id=1 + n % PARENTS, title="a title", pages=n % 400) for n in range(number)]

    return make


def changed_books(author: Any, book: Any) -> list[Any]:
    """Return all books, each with one page more."""
    found = list(book.objects.order_by("pk"))
    for one in found:
        one.pages += 1
    return found


def all_books(author: Any, book: Any) -> Any:
    """Return the query of all books."""
    return book.objects.all()


def save_all(contender: Contender, rows: list[Any]) -> None:
    """Save each in a transaction of its own, as a request would."""
    from django.db import transaction

    for row in rows:
        with transaction.atomic():
            row.save()


def create_all(contender: Contender, rows: list[Any]) -> None:
    """Create all at once, as nobody has to know what depends on them."""
    type(rows[0]).objects.bulk_create(rows)


def create_in_own_way(contender: Contender, rows: list[Any]) -> None:
    """Create all at once, in the way that a contender asks for."""
    (contender.bulk_create or (lambda made: create_all(contender, list(made))))(rows)


def create_or_save(contender: Contender, rows: list[Any]) -> None:
    """Create all at once, or one by one in one transaction where signals have to see them."""
    from django.db import transaction

    if contender.sees_sql:
        create_all(contender, rows)
        return
    with transaction.atomic():
        for row in rows:
            row.save()


def update_all(contender: Contender, rows: Any) -> None:
    """Add a page to every book."""
    from django.db.models import F

    rows.update(pages=F("pages") + 1)


def update_in_own_way(contender: Contender, rows: Any) -> None:
    """Add a page to every book, in the way that a contender asks for."""
    from django.db.models import F

    if contender.update:
        contender.update(rows, {"pages": F("pages") + 1})
    else:
        update_all(contender, rows)


def delete_all(contender: Contender, rows: Any) -> None:
    """Delete all books; where somebody listens, Django fetches them first."""
    rows.delete()
