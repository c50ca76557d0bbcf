"""RESOLVE: the names that an expression mentions, before it is resolved: paths, labels, and other texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db.models import F, Field, Q

from trigger_kit.notation import arguments
from trigger_kit.rows import Rows

__all__ = ["names_in"]


def names_in(value: Any) -> Iterator[str]:
    """Yield every text of an expression as it was written: more than its paths, but never less."""
    if isinstance(value, str):
        yield value.lstrip("-")
    elif isinstance(value, F):
        # The name of an outer reference may itself be one.
        yield from names_in(value.deconstruct()[1][0])
    elif isinstance(value, Rows):
        yield value.label
        yield from names_in([(call.args, call.kwargs) for call in value.calls])
    elif isinstance(value, Q):
        yield from names_in(value.children)
    elif isinstance(value, Mapping):
        yield from names_in([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from names_in(item)
    elif not isinstance(value, (type, Field)):
        yield from names_in(arguments(value) or ())
