"""The app of the models of django-computedfields."""

from django.apps import AppConfig


class ComputedConfig(AppConfig):
    """Give the app a label of its own."""

    name = "benchmarks.contenders.computed"
    label = "bench_computed"
