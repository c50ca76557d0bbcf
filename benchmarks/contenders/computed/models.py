"""Author and book with computed fields instead of plain columns."""

from __future__ import annotations

from typing import Any

from computedfields.models import ComputedFieldsModel, computed  # type: ignore[import-untyped]
from django.db import models
from django.db.models import Sum

NUMBER, TOTAL = models.IntegerField(default=0), models.BigIntegerField(default=0)


class Author(ComputedFieldsModel):  # type: ignore[misc]
    """An author whose two values that library keeps."""

    name = models.TextField(default="", blank=True)

    class Meta:
        app_label = "bench_computed"
        db_table = "bench_books_author"
        managed = False

    @computed(NUMBER, depends=[("books", ["author"])], default_on_create=True)  # type: ignore[untyped-decorator]
    def num_books(self) -> int:
        """Count the books."""
        return self.books.count()  # type: ignore[attr-defined,no-any-return]

    @computed(TOTAL, depends=[("books", ["author", "pages"])], default_on_create=True)  # type: ignore[untyped-decorator]
    def pages_total(self) -> Any:
        """Sum their pages."""
        return self.books.aggregate(total=Sum("pages", default=0))["total"]  # type: ignore[attr-defined]


class Book(models.Model):
    """A book as in the app of the benchmarks."""

    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    title = models.TextField(default="", blank=True)
    pages = models.IntegerField(default=0)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    published = models.BooleanField(default=False)
    day = models.DateField(null=True)
    note = models.TextField(default="", blank=True)

    class Meta:
        app_label = "bench_computed"
        db_table = "bench_books_book"
        managed = False
