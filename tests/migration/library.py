"""The models that the throw-away projects are made of: authors, their books, and fields that rules keep."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import indent

HEADER = """
from django.conf import settings
from django.db import models
from django.db.models import Count, Q, Sum
from trigger_kit import Denormalize, Guard
"""

BOOK = """
class Book(models.Model):
    author = models.ForeignKey("Author", models.CASCADE, related_name="books")
    pages = models.IntegerField(default=0)
    published = models.BooleanField(default=False)
"""

# Author 3 has no book.
ROWS = """
INSERT INTO books_author (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO books_book (id, author_id, pages, published) VALUES
    (1, 1, 10, true), (2, 1, 20, false), (3, 1, 40, true), (4, 2, 80, false);
"""

# A re-parented, a changed, a deleted and a new book; author 1 keeps 10 + 21, 2 gets 40 + 160, 3 nothing.
CHURN = """
UPDATE books_book SET author_id = 2 WHERE id = 3;
UPDATE books_book SET pages = 21, published = true WHERE id = 2;
DELETE FROM books_book WHERE id = 4;
INSERT INTO books_book (id, author_id, pages, published) VALUES (5, 2, 160, false);
"""


@dataclass(frozen=True)
class Kept:
    """A field of Author and its rule."""

    field: str
    rule: str = ""

    @property
    def without_rule(self) -> Kept:
        """The field alone."""
        return Kept(self.field)

    def replace(self, old: str, new: str) -> Kept:
        """Return the field and the rule with another text."""
        return Kept(self.field.replace(old, new), self.rule.replace(old, new))


NUM_BOOKS = Kept(
    "num_books = models.IntegerField(default=0, editable=False)", 'Denormalize("num_books", Count("books"))'
)
PAGES_TOTAL = Kept(
    "pages_total = models.BigIntegerField(default=0, editable=False)",
    'Denormalize("pages_total", Sum("books__pages", default=0))',
)
NUM_PUBLISHED = Kept(
    "num_published = models.IntegerField(default=0, editable=False)",
    'Denormalize("num_published", Count("books", filter=Q(books__published=True)))',
)


def model(name: str, *kept: Kept, fields: str = "name = models.CharField(max_length=50)", meta: str = "") -> str:
    """Return the source of a model with rules."""
    body = "\n".join([fields, *(item.field for item in kept)])
    rules = ", ".join(item.rule for item in kept if item.rule)
    options = "\n".join(filter(None, [f"denormalizations = [{rules}]" if rules else "", meta]))
    inner = f"\nclass Meta:\n{indent(options, '    ')}\n" if options else ""
    return f"\nclass {name}(models.Model):\n{indent(body + inner, '    ')}\n"


def library(*kept: Kept, book: str = BOOK, meta: str = "", header: str = HEADER) -> str:
    """Return a models.py with Author, who has these fields and rules, and Book."""
    return header + model("Author", *kept, meta=meta) + book
