"""The row trigger by hand, written with django-pgtrigger as its users do, and installed the way that library does.

What those say in conditions is said in conditions here, the guard too.
"""

from __future__ import annotations

from typing import Any

from benchmarks.contenders.base import Contender
from benchmarks.ground import Place, django_at

KEEP = """
IF TG_OP <> 'INSERT' THEN
    UPDATE bench_books_author SET num_books = num_books - 1, pages_total = pages_total - OLD.pages
    WHERE id = OLD.author_id;
END IF;
IF TG_OP <> 'DELETE' THEN
    UPDATE bench_books_author SET num_books = num_books + 1, pages_total = pages_total + NEW.pages
    WHERE id = NEW.author_id;
END IF;
RETURN NULL;
"""
GUARD = "NEW.num_books := OLD.num_books; NEW.pages_total := OLD.pages_total; RETURN NEW;"
FIRST = "NEW.num_books := 0; NEW.pages_total := 0; RETURN NEW;"
BY_USERS = "pg_trigger_depth() = 0 AND (NEW.num_books <> OLD.num_books OR NEW.pages_total <> OLD.pages_total)"


def triggers() -> list[tuple[Any, Any]]:
    """Return the triggers, each with its model."""
    import pgtrigger

    from benchmarks.books.models import Author, Book

    come_or_go, after, before = pgtrigger.Insert | pgtrigger.Delete, pgtrigger.After, pgtrigger.Before
    changed = pgtrigger.AnyChange("author", "pages")
    first = pgtrigger.Condition("NEW.num_books <> 0 OR NEW.pages_total <> 0")
    guard = pgtrigger.Condition(BY_USERS)
    return [
        (Book, pgtrigger.Trigger(name="come_and_go", when=after, operation=come_or_go, func=KEEP)),
        (Book, pgtrigger.Trigger(name="change", when=after, operation=pgtrigger.Update, condition=changed, func=KEEP)),
        (
            Author,
            pgtrigger.Trigger(name="guard", when=before, operation=pgtrigger.Update, condition=guard, func=GUARD),
        ),
        (
            Author,
            pgtrigger.Trigger(name="first", when=before, operation=pgtrigger.Insert, condition=first, func=FIRST),
        ),
    ]


def install(place: Place) -> None:
    """Let the library compile and install its triggers."""
    with django_at(place):
        for model, trigger in triggers():
            trigger.install(model)


PGTRIGGER = Contender("django-pgtrigger", install)
