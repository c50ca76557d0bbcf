"""The ways to keep the same two values that are measured side by side, each in a database of its own."""

from __future__ import annotations

from benchmarks.contenders.base import Contender, nothing
from benchmarks.contenders.by_hand import ROW, STATEMENT
from benchmarks.contenders.computed_fields import COMPUTED
from benchmarks.contenders.denorm_program import DENORM
from benchmarks.contenders.ivm import IVM
from benchmarks.contenders.ours import OURS
from benchmarks.contenders.pgtrigger_plain import PGTRIGGER
from benchmarks.contenders.signals import SIGNALS
from benchmarks.ground import Ground, Place

__all__ = ["BASE", "CONTENDERS", "NOTHING", "OURS", "ROW", "STATEMENT", "Contender", "enter"]

BASE = "no trigger"
NOTHING = Contender(BASE, nothing)
CONTENDERS = (*OURS, ROW, STATEMENT, PGTRIGGER, SIGNALS, COMPUTED, DENORM, IVM)


def enter(ground: Ground, contender: Contender) -> Place | str:
    """Give a contender a database of its own, and install it there; or say why that cannot be."""
    place = ground.copy(contender.name)
    if reason := contender.missing(place):
        return reason
    contender.install(place)
    return place
