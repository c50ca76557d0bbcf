"""The same logic in Django's signals, as a careful developer writes it: differences by F(), no value from memory.

A receiver that locks needs a transaction around save(); with ATOMIC_REQUESTS there is one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.signals import post_delete, post_save, pre_save

from benchmarks.contenders.base import Contender, nothing


def add(author_id: int, number: int, pages: int) -> None:
    """Add to the values of an author."""
    from benchmarks.books.models import Author

    Author.objects.filter(pk=author_id).update(num_books=F("num_books") + number, pages_total=F("pages_total") + pages)


def remember(instance: Any, **_: Any) -> None:
    """Look up what a book counted for before it is saved; locked, so that nobody else takes it off as well."""
    rows = type(instance).objects.select_for_update().filter(pk=instance.pk).values_list("author_id", "pages")
    instance._counted = None if instance._state.adding else rows.first()


def saved(instance: Any, **_: Any) -> None:
    """Take off what the book counted for, and add what it counts for now."""
    before, now = instance._counted, (instance.author_id, instance.pages)
    if before == now:
        return
    if before and before[0] == now[0]:
        add(now[0], 0, now[1] - before[1])
        return
    if before:
        add(before[0], -1, -before[1])
    add(now[0], 1, now[1])


def deleted(instance: Any, **_: Any) -> None:
    """Take off what the book counted for."""
    add(instance.author_id, -1, -instance.pages)


@contextmanager
def connected() -> Iterator[None]:
    """Connect the receivers for a while."""
    from benchmarks.books.models import Book

    receivers = ((pre_save, remember), (post_save, saved), (post_delete, deleted))
    for signal, receiver in receivers:
        signal.connect(receiver, sender=Book)
    try:
        yield
    finally:
        for signal, receiver in receivers:
            signal.disconnect(receiver, sender=Book)


def bulk_create(books: Sequence[Any]) -> None:
    """Create books, and add up by author what signals would: nobody sends them for bulk_create."""
    from benchmarks.books.models import Book

    totals: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for book in books:
        totals[book.author_id][0] += 1
        totals[book.author_id][1] += book.pages
    with transaction.atomic():
        Book.objects.bulk_create(books)
        for author_id in sorted(totals):
            add(author_id, *totals[author_id])


SIGNALS = Contender("signals", nothing, sees_sql=False, at_work=connected, bulk_create=bulk_create)
