"""Rules of trigger_kit, in each timing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender
from benchmarks.ground import Place, flush, install

if TYPE_CHECKING:
    from benchmarks.ground import Rules

TIMINGS = ("IMMEDIATE", "DEFERRED", "QUEUED")


def rules(timing: str) -> Rules:
    """Return the rules for the two values."""
    from django.db.models import Count, Sum

    from benchmarks.books.models import Author
    from trigger_kit import Denormalize, Timing

    return [
        (
            Author,
            [
                Denormalize("num_books", Count("books"), timing=Timing[timing]),
                Denormalize("pages_total", Sum("books__pages", default=0), timing=Timing[timing]),
            ],
        )
    ]


def install_rules(timing: str, place: Place) -> None:
    """Install them."""
    install(place, rules(timing))


OURS = tuple(Contender(name, partial(install_rules, name), settle=flush, must_be_right=True) for name in TIMINGS)
