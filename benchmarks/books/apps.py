"""The app of the benchmarks' models."""

from django.apps import AppConfig


class BooksConfig(AppConfig):
    """Give the app a label that says where its tables come from."""

    name = "benchmarks.books"
    label = "bench_books"
