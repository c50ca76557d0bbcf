"""Authors and their books, and a chain of five tables for rules over one to four hops.

Every column has a default in the database, so that a statement names only what it is about.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models import BigIntegerField, BooleanField, DateField, DecimalField, ForeignKey, IntegerField, TextField


def number(**options: Any) -> IntegerField[Any, Any]:
    """Return an integer column that begins with 0."""
    return IntegerField(default=0, db_default=0, **options)


def total() -> BigIntegerField[Any, Any]:
    """Return a column for the value of a rule that begins with 0."""
    return BigIntegerField(default=0, db_default=0, editable=False)


def text() -> TextField[Any, Any]:
    """Return a text column that begins empty."""
    return TextField(default="", db_default="", blank=True)


class Author(models.Model):
    """What books belong to, with columns for all rules that a table may bring."""

    objects: ClassVar[models.Manager[Author]] = models.Manager()

    name = text()
    num_books = number(editable=False)
    pages_total = total()
    column_1 = total()
    column_2 = total()
    column_3 = total()
    column_4 = total()
    column_5 = total()
    column_6 = total()
    column_7 = total()
    column_8 = total()
    revenue = DecimalField(max_digits=12, decimal_places=2, null=True, editable=False)
    latest = DateField(null=True, editable=False)
    label = TextField(null=True, editable=False)  # noqa: DJ001 - an aggregate over no rows is NULL

    class Meta:
        app_label = "bench_books"


class Book(models.Model):
    """What is counted and summed; ``copied`` is for a column that is copied from the author."""

    objects: ClassVar[models.Manager[Book]] = models.Manager()

    author = ForeignKey(Author, models.CASCADE, related_name="books")
    title = text()
    pages = number()
    price = DecimalField(max_digits=8, decimal_places=2, default=0, db_default=0)
    published = BooleanField(default=False, db_default=False)
    day = DateField(null=True)
    note = text()
    copied = TextField(null=True, editable=False)  # noqa: DJ001 - what is copied may be missing

    class Meta:
        app_label = "bench_books"


class Region(models.Model):
    """Four hops above the scans."""

    name = text()
    scans = number(editable=False)
    weight_total = total()

    class Meta:
        app_label = "bench_books"


class Store(models.Model):
    """Three hops above the scans."""

    region = ForeignKey(Region, models.CASCADE, related_name="stores")
    name = text()
    scans = number(editable=False)
    weight_total = total()

    class Meta:
        app_label = "bench_books"


class Shelf(models.Model):
    """Two hops above the scans."""

    store = ForeignKey(Store, models.CASCADE, related_name="shelves")
    name = text()
    scans = number(editable=False)
    weight_total = total()

    class Meta:
        app_label = "bench_books"


class Item(models.Model):
    """What is scanned."""

    shelf = ForeignKey(Shelf, models.CASCADE, related_name="items")
    name = text()
    scans = number(editable=False)
    weight_total = total()

    class Meta:
        app_label = "bench_books"


class Scan(models.Model):
    """What is counted and summed over up to four hops; its reverse name leaves ``scans`` to the column."""

    item = ForeignKey(Item, models.CASCADE, related_name="item_scans")
    weight = number()

    class Meta:
        app_label = "bench_books"
