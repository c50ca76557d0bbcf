"""django-computedfields: values that Python computes anew, by signals, or by a call after writing many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from benchmarks.contenders.base import Contender, Models, nothing
from benchmarks.ground import Place

# The library connects its receivers for all models under these names when Django starts.
NAMES = {
    pre_save: "COMP_FIELD_PRESAVE",
    post_save: "COMP_FIELD",
    pre_delete: "COMP_FIELD_PREDELETE",
    post_delete: "COMP_FIELD_POSTDELETE",
}


def is_installed() -> bool:
    """Say whether the library is there."""
    return find_spec("computedfields") is not None


def missing(place: Place) -> str:
    """Say that the library is not there."""
    return "" if is_installed() else "not installed"


def models() -> Models:
    """Return the models with computed fields."""
    from benchmarks.contenders.computed.models import Author, Book

    return Author, Book


def disconnect() -> None:
    """Keep the library's receivers out of everybody else's work."""
    for signal, name in NAMES.items():
        signal.disconnect(dispatch_uid=name)


@contextmanager
def connected() -> Iterator[None]:
    """Connect the library's receivers for a while, as it does itself."""
    from computedfields import handlers  # type: ignore[import-untyped]

    receivers = (
        handlers.get_old_handler,
        handlers.postsave_handler,
        handlers.predelete_handler,
        handlers.postdelete_handler,
    )
    for (signal, name), receiver in zip(NAMES.items(), receivers, strict=True):
        signal.connect(receiver, weak=False, dispatch_uid=name)
    try:
        yield
    finally:
        disconnect()


def bulk_create(books: Sequence[Any]) -> None:
    """Create books, and have what depends on them computed."""
    from computedfields.models import update_dependent  # type: ignore[import-untyped]

    book = models()[1]
    with transaction.atomic():
        made = book.objects.bulk_create(books)
        update_dependent(book.objects.filter(pk__in={one.pk for one in made}))


def update(rows: Any, values: dict[str, Any]) -> None:
    """Update rows, and have what depends on them computed."""
    from computedfields.models import preupdate_dependent, update_dependent

    with transaction.atomic():
        before = preupdate_dependent(rows)
        rows.update(**values)
        update_dependent(rows, old=before)


COMPUTED = Contender(
    "django-computedfields",
    nothing,
    missing=missing,
    sees_sql=False,
    models=models,
    at_work=connected,
    bulk_create=bulk_create,
    update=update,
)
